"""`cuadre demo`: an embedded Postgres, a simulated Mercado Pago that misbehaves, the service, and a day of orders.

plan, lives, plants, programme   what happens to which order, from a seed; what must be found (pure)
household                        the processes, their ports, files and secrets
provider, stored                 the two sides: the simulator's books, the service's tables
drive, settle, faults            carrying the plan out, waiting until it is caught up, what goes wrong meanwhile
compare, report, show            whether both sides are equal (pure), and how that is said
run                              all of it together
"""

from service.cli.demo.run import run_demo

__all__ = ["run_demo"]
