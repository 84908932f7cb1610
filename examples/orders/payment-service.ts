/** A payment service to try the example with. It fails in every way that a service over HTTP can. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { json } from 'node:stream/consumers'

export interface Payment {
  amountCents: number
  /** How often the card was charged. A correct service and a correct client never let it exceed 1. */
  charges: number
  isRefunded: boolean
}

/** What happens to a request instead of a correct answer. `after` means that the service has done its work before. */
const failures = ['500', '500 after', '503', '429', 'reset', 'reset after', 'silence', 'silence after'] as const
type Failure = (typeof failures)[number]

export interface PaymentServer {
  server: Server
  payments: ReadonlyMap<string, Payment>
  /** How often each failure has happened. */
  failed: ReadonlyMap<Failure, number>
}

/**
 * @param random returns a number from 0 to 1; default: `Math.random`
 * @param failureRate the share of requests that fail, from 0 to 1
 */
export function createPaymentServer(failureRate: number, random: () => number = Math.random): PaymentServer {
  const payments = new Map<string, Payment>()
  const failed = new Map<Failure, number>()
  const server = createServer(async (request, response) => {
    const failure = random() < failureRate ? failures[Math.floor(random() * failures.length)] : undefined
    if (failure) failed.set(failure, (failed.get(failure) ?? 0) + 1)
    if (failure && !failure.endsWith('after')) return fail(failure, request, response)
    const status = await handle(payments, request)
    if (failure) return fail(failure, request, response)
    response.writeHead(status).end()
  })
  return { server, payments, failed }
}

async function handle(payments: Map<string, Payment>, request: IncomingMessage): Promise<number> {
  const [, key] = /^\/payments\/([\w-]+)$/.exec(request.url ?? '') ?? []
  if (key === undefined) return 404
  const payment = payments.get(key)
  if (request.method === 'DELETE') {
    payments.set(key, { ...(payment ?? { amountCents: 0, charges: 0 }), isRefunded: true })
    return 204
  }
  if (request.method !== 'PUT') return 405
  const { amountCents, card } = (await json(request)) as { amountCents: number; card: string }
  if (payment?.isRefunded) return 410
  if (payment) return 200
  if (card === 'declined') return 402
  payments.set(key, { amountCents, charges: 1, isRefunded: false })
  return 201
}

function fail(failure: Failure, request: IncomingMessage, response: ServerResponse): void {
  if (failure.startsWith('silence')) return
  if (failure.startsWith('reset')) {
    request.socket.resetAndDestroy()
    return
  }
  response.writeHead(Number(failure.slice(0, 3)), { 'retry-after': '1' }).end()
}

if (import.meta.main) {
  const { server } = createPaymentServer(0.2)
  server.listen(4000, '127.0.0.1', () => console.log('The payment service listens at http://127.0.0.1:4000'))
}
