"""Registration: is this pair aligned, by how much is it off, and the transform that aligns it.

It needs OpenCV (``python -m pip install -e '.[cameras]'``), the rest of the package does not.
"""
