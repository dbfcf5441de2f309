"""Every published method of the field behind one protocol: patches in, fine maps out; each trained by the same recipes.

A method is one class in a module here, registered by its name; `find_method` knows them all.
"""

from irst_stream.learn.methods.method import METHODS, Method, find_method, register, registered

__all__ = ["METHODS", "Method", "find_method", "register", "registered"]
