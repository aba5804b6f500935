"""Match: which rule covers a request, in whatever form its target came."""
