"""The test world: the real servers and engines on loopback. README.md in this folder tells what each fixture gives."""
