"""Everything that runs at the far end, and what both ends share: frames, the data codec, the file protocol.

Rules of this floor: the standard library only, Python >= 3.8, and nothing imported from outside this folder. At
start only what Debian's python3-minimal has (no json, ctypes, queue, shutil, uuid, pty, termios): the rest is
imported where it is needed, and its absence is named there.
"""
