"""The near end of an open route: how it is opened, kept and closed, its stream, and the calls and files on it.

The order of its files, from the ground up, stands in tests/unit/test_house.py.
"""
