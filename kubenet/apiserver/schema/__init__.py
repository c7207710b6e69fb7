"""What the fields of the served kinds are called, numbered and typed. *Pure.*"""
