"""A Mercado Pago that can be told to misbehave. Imports nothing of the service: no mistake can stand on both sides.

Start it: `python -m service.simulator --port 8090 --seed 1 --webhook-url http://127.0.0.1:8080/webhooks/mercadopago
--secret S` or `create_app(SimulatorConfig(...))` / `await run(config)` of `service.simulator.server`.

Provider API (as documented): `GET /v1/orders/{id}`, `GET /v1/orders` (search), `GET /users/me`, `POST /v1/orders`,
`POST /v1/orders/{id}/cancel`, `POST /v1/orders/{id}/refund`; the legacy attended QR (`/mpmobile/instore/qr/...`,
`/instore/qr/...`), `GET /merchant_orders/{id}` and `/search`, `GET /v1/payments/{id}` and `/search`, and
`GET|POST /v1/payments/{id}/refunds`. What these accept and refuse, the rules of `/_sim/rules`, the buyer's side of the
legacy QR (`/_sim/legacy/...`) and every interpretation of the fact sheets: docs/simulator.md.

Tokens: those of `access_tokens`, and when none is set any bearer token (`DEFAULT_ACCESS_TOKEN` is the usual one);
`TEST-` tokens always get the gateway's 403 from `/v1/orders`. An order of another *configured* seller is 404.

Control API. Bodies are JSON objects, `?` marks optional members. Answers are JSON; errors are
`{"error":{"code","message"}}` with 400 (body), 404 (no such order), 409 (the order's state forbids it).

Orders. Each answers the order exactly as `GET /v1/orders/{id}` would (creation 201, the rest 200). Every change may
carry `notify?`: `true` (default: the event documented for that state; none for created, at_terminal, processing, and
for refunds that are processing or failed), `false`, or an action text such as `"order.refunded"` to force one.

    POST /_sim/orders
        {type?: qr|point|online, total_amount?: "1500.00", external_reference?, status?: created, status_detail?, id?,
         test?: false (ORDTST id, live_mode false), description?, expiration_time?: "PT15M", created_date?: RFC 3339,
         site?: MLA|MLB|MLC|MLM|MLU|MCO|MPE, currency?, user_id?, application_id?, mode?: static|dynamic|hybrid,
         external_pos_id?, terminal_id?, items?: [...], discounts?: [{type, new_total_amount}],
         payment_method?: {id, type, installments?}, payment_detail? (why it failed), paid_amount?, tip_amount?,
         refunds?: ["30.00", "70.00"], quirks?: [...], overrides?: {deep merge}}
        status is any of created, at_terminal, processing, action_required, processed, partially_refunded, refunded,
        expired, canceled, failed, charged_back: the order goes there step by step, only the last step is announced.
        status_detail replaces the detail of that last step. An online order asked for as expired is expired; one that
        runs out, or is told to expire, is canceled/expired as the provider shows it.
        quirks: alpha2_country, site_country, no_currency, two_digit_fractions, nine_digit_fractions, discounts_object,
        discounts_array, empty_taxes, unknown_fields, number_amounts, refunded_detail_created.
    POST /_sim/orders                    {raw: {whole order, kept verbatim; needs "id"}}
    POST /_sim/orders/{id}/pay           {paid_amount?, tip_amount?, payment_method?, provider?}; also of an expired,
                                         canceled or failed order (late money)
    POST /_sim/orders/{id}/refund        {amount? (default: all that is left), payment_id?,
                                         status?: processed|processing|failed},
                                         or {refund_id, status: processed|failed} to end one that is processing
    POST /_sim/orders/{id}/expire        {}
    POST /_sim/orders/{id}/cancel        {status_detail? of the payment}
    POST /_sim/orders/{id}/chargeback    {status?: in_process|settled|reimbursed, amount?}; a second call moves the
                                         one that is in_process
    POST /_sim/orders/{id}/terminal      {} Point: created -> at_terminal
    POST /_sim/orders/{id}/processing    {status_detail?}
    POST /_sim/orders/{id}/action_required {status_detail?}
    POST /_sim/orders/{id}/fail          {status_detail? of the payment}
    POST /_sim/orders/{id}/patch         {merge: {...}} or {raw: {...}}, touch?: true
        merge goes deep: objects by key, arrays by index (extra items are appended), null removes a key or an item.
        A change bumps last_updated_date and the version, unless touch is false or the patch brings its own date;
        raw replaces the whole body and dates nothing.
    GET  /_sim/orders[?limit=&offset=]   {"data": [orders as GET answers them, oldest first],
                                         "deliveries": {order id: {delivered: bool, delivered_version, version,
                                         notifications, attempts, dropped}}, "paging": {total, limit, offset}};
                                         delivered: at least one notification about it was answered 200 or 201;
                                         dropped: notifications lost on purpose; versions: announced and delivered
    GET  /_sim/orders/{id}               the order, without token and without faults

Faults.

    POST /_sim/faults   {"get_order": {...} or [{...}, ...], "search": ..., "me": ..., "create": ..., "refund": ...,
                         "cancel": ..., "legacy_create": ..., "legacy_get": ..., "legacy_delete": ...,
                         "merchant_order": ..., "merchant_order_search": ..., "payment": ..., "payment_search": ...,
                         "payment_refund": ..., "payment_refunds": ... (their list), "*": ..., "not_yet": {...},
                         "notification": {...}, "indexing_lag_seconds": 0, "replace"?: false}
        A member replaces what was set under that name, the rest stays (replace: true forgets the rest); {} under a name
        resets it, an empty body resets all. Answers (as GET /_sim/faults) what is in force.
        per operation: {status?, rate?: 1.0, count?: only the next n hits, latency_ms?: n or [min, max], order_id? (or
            payment id, merchant order id, external_pos_id of the path),
            retry_after?: 5 (seconds) or any text, retry_after_date?: 5 (as HTTP-date), code?, message?,
            body?: garbage|html|empty|array|truncated|cut|foreign|stale|oversized|hang|disconnect,
            size_bytes? (of oversized: 16 MiB),
            when?: before|after (of a write: the call took effect, its answer is lost)}
            All entries that hit add their latency, the first one with a status or body decides the answer. Latency of
            a write comes after its effect, so that its webhook overtakes the answer, and its idempotency key is in use
            (423) until then. An answer lost without an effect is `before` (the default) with `disconnect` or `hang`.
        not_yet: {cancel?: {...}, refund?: {...}}, each {code?: one or several to draw from, rate?: 1.0, seconds?: 5
            (simulated, since the creation or the payment), times?: n (per order)}: refusals that pass, with the same
            key, too. Codes: processor_communication_error (cancel's default), post_processing_operation_pending (409),
            unprocessable_entity (422, refund's default), order_payment_not_yet_enabled_for_refund (425).
        notification: {drop?, duplicate?, reorder?, legacy? (rates 0..1), delay_ms? (at most), duplicate_gap_ms?: 2000,
            reorder_hold_ms?: 2000, sign?: lowercase|verbatim|wrong|none|ms|no_request_id or {variant: rate},
            clock_skew_seconds?: 0}
            drop loses all attempts. reorder holds one back until the order's next one was delivered, or for
            reorder_hold_ms. legacy adds a feed-v2 merchant_order message.

Notifications.

    POST /_sim/notify   sends one, past all faults; one attempt, unless retry: true. Answers 202 {"notification": n},
                        with wait: true 200 {"notification", "outcome", "status"}.
        {kind?: "order", order_id, action?, body_id? (another id in the body), version?}
        {kind: "feed", topic: payment|merchant_order|..., id}     legacy ?topic=&id=, a signature nobody can verify
        {kind: "panel", id?: "123456"}                            the panel's simulation, signed verbatim
        {kind: "webhook", topic, action, id}                      e.g. payment, payment.updated, 118000000101
        {kind: "raw", query: {...}, body: any or text: "...", headers?: {...}, data_id?}
        all: sign?: variant, secret?, wait?: false, retry?: false
    GET  /_sim/notifications[?order_id=&limit=]  {"data": [{notification, order_id, topic, action, version, attempt, at,
                        outcome: delivered|refused|timeout|connection_error|dropped|no_webhook_url, status, sign,
                        duplicate}], "total"}, oldest first, a bounded ring
    POST /_sim/webhook  {url?, secret?} where deliveries go and what signs them; null switches off
    GET  /_sim/idle[?timeout_seconds=10&ignore_retries=0]   or POST /_sim/settle: 200 {"idle": true, queued, running,
                        retrying} once no delivery is queued, running or waiting for a retry; 504 after the timeout

The rest.

    GET  /_sim/requests[?limit=&operation=]  {"data": [{n, at, method, path, query, operation, status, seconds,
                        fault}], "total", "counts": {operation: {status: n}}}; provider API only, never a token;
                        status null: no answer was given
    POST /_sim/clock    {advance_seconds?, set?: RFC 3339, speed?: 1.0 (0 freezes)}; answers (as GET) {"now", "speed"}.
                        Expiries and retries follow it; delays, latencies and time-outs are real time.
    GET|POST /_sim/rules, GET /_sim/legacy, POST /_sim/legacy/{external_pos_id}/{act}, GET /_sim/places
                        see docs/simulator.md
    POST /_sim/reset    {seed?}: forgets orders, faults, logs, keys and deliveries, and restores the clock

Deterministic from the seed: every draw (id, amount, payment method, reference, fault, delay) is keyed by what it is
about (for an order: its external reference and how many orders bore it before; for a call: operation, order, and how
many times before while any fault was in force; for a notification: its order and how many that had before), never by
the order of arrival. So concurrency does not change who is hit. An order without an external reference gets one by its
place of creation. With a frozen clock (`start_at`, speed 0) bodies are equal byte for byte; with a running one they
differ in their times and in the time part of ids. Not deterministic: when a request or delivery really happens, and
whom a `count` hits when calls race.
"""
