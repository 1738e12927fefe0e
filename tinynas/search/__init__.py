"""tinynas.search"""
