"""What the supervisor and its workers share: the channel, shared memory, metrics, and what a kit says about its model.

May import: adapters.base, runtime.kit.format, runtime.kit.kit.
Imported by: runtime, runtime.commands, runtime.serving, runtime.supervisor, runtime.worker.
"""
