"""tinynas.report"""
