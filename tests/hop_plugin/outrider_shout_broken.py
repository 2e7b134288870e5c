"""What a package looks like whose hop cannot be loaded."""

import no_such_module_anywhere  # noqa: F401
