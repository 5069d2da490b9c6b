"""What audit's routes take, for the OpenAPI document, where they read the request themselves."""

from services.shared.web import event_batch
from services.shared.web.openapi import Described

ROUTES = {"receipts": Described(takes=event_batch.DESCRIBED)}
