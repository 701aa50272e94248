"""SpikeGLX: files, metas, triggers and opening."""
