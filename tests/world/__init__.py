"""The test world: the real servers and engines on loopback. README.md here tells what each fixture gives."""
