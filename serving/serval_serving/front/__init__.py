"""Front mode: this server before another predict server, which it gives /score, keys, limits and more."""
