"""See what packets do: trace one flow, watch all, check what is believed against what is.

Shells (``tracer``, ``gather``, ``probe``, ``watching``) look at the kernel; everything that decides what it
means is pure.
"""
