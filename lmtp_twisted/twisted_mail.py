"""Adapters: twisted.mail's IMessageDelivery and IMessageDeliveryFactory work unchanged."""
