"""What processes exchange outside Ray: the handshake of a page server, the address of a source."""
