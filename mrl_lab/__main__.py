"""``python -m mrl_lab`` is ``mrl-lab``."""

from mrl_lab.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
