raise AttributeError("own error")
