"""The commands of driftline by what they are about; `infra.cli` lists them.

Each module has ``register(app)``, which adds its commands. A command reads its arguments, builds
configs from `infra.settings`, calls one function of another package and prints what it returns;
what is heavy to import it imports itself, so that ``--help`` stays fast.
"""
