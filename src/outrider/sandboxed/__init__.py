"""Sandboxes: untrusted commands and functions in jails at a far end, with a verdict and what each used."""

from outrider.sandboxed.pairs import Interaction, Program, interact
from outrider.sandboxed.result import SandboxCall, SandboxResult, Usage
from outrider.sandboxed.session import Sandbox

__all__ = ["Interaction", "Program", "Sandbox", "SandboxCall", "SandboxResult", "Usage", "interact"]
