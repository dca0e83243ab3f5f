"""What both applications share: every request is counted by its route's pattern."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.telemetry.metrics import http_requests_total


def count_requests(app_name: str) -> Middleware:
    """Middleware that counts `http_requests_total{app,route,status}`; make it the outermost one.

    `route` is the pattern, like `/webhooks/mercadopago/{account}`, or `unmatched`: a raw path would let anybody make
    new series.
    """

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        status = 500
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            resource = request.match_info.route.resource
            route = "unmatched" if resource is None else resource.canonical
            http_requests_total.labels(app_name, route, str(status)).inc()
        return response

    return count
