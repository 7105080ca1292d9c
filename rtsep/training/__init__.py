"""Training of the nets: the only part of rtsep that imports torch. Nothing at run time imports it."""
