"""Attacks on the sandbox: real programs that try to get out, to hurt, to hide or to lie, under every engine here."""
