"""A page in the browser to try it on two pictures: align, fuse, compare, download."""
