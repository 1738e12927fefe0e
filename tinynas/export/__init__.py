"""tinynas.export"""
