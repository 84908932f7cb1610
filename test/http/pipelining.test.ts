import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { json, text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { limitPipelining, maxRequestsInFlight, maxWaitingRequests } from '../../src/http/pipelining.ts'
import { until } from '../support/until.ts'

interface Exchange {
  request: IncomingMessage
  response: ServerResponse
}

/** Starts a server that answers nothing by itself, and connects to it. */
async function setUp(t: Test) {
  const exchanges: Exchange[] = []
  const server = createServer({ requireHostHeader: false }, (request, response) => {
    exchanges.push({ request, response })
  })
  limitPipelining(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
  t.teardown(() => {
    socket.destroy()
    server.closeAllConnections()
    server.close()
  })
  await once(socket, 'connect')
  return { server, socket, exchanges, open: () => exchanges.filter(({ response }) => !response.writableEnded) }
}

/** Answers every request until `count` requests have been answered. Asserts the limit before each answer. */
async function answerAll(t: Test, exchanges: readonly Exchange[], count: number): Promise<string[]> {
  const urls: string[] = []
  let exceeded = 0
  for (let index = 0; index < count; index++) {
    const { request, response } = await until(() => exchanges[index])
    if (exchanges.length - index > maxRequestsInFlight) exceeded += 1
    urls.push(request.url as string)
    response.end(request.url)
  }
  t.equal(exceeded, 0, 'the limit was kept')
  return urls
}

const get = (path: string | number) => `GET /${path} HTTP/1.1\r\n\r\n`
const range = (count: number) => Array.from({ length: count }, (_, number) => number)

/** Waits until everything that the peer has sent so far has been read, as far as the peer reads it. */
async function settled(socket: Socket): Promise<void> {
  await until(() => socket.writableLength === 0)
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
}

t.test('of a thousand pipelined requests, 8 are in progress, and all are answered in order', async (t) => {
  const { socket, exchanges, open } = await setUp(t)
  socket.resume()
  socket.write(range(1_000).map(get).join(''))
  await until(() => exchanges.length >= maxRequestsInFlight)
  await settled(socket)
  t.equal(open().length, maxRequestsInFlight)
  t.same(
    await answerAll(t, exchanges, 1_000),
    range(1_000).map((number) => `/${number}`),
  )
})

t.test('requests that arrive byte by byte, or are cut at any place, are answered and limited as well', async (t) => {
  for (const size of [1, 2, 3, 7, 19, 20, 21]) {
    const { socket, exchanges } = await setUp(t)
    socket.setNoDelay(true)
    socket.resume()
    const bytes = range(20).map(get).join('')
    for (let start = 0; start < bytes.length; start += size) {
      socket.write(bytes.slice(start, start + size))
      await new Promise(setImmediate)
    }
    t.same(
      await answerAll(t, exchanges, 20),
      range(20).map((number) => `/${number}`),
      `${size} bytes at a time`,
    )
  }
})

for (const [what, head] of [
  ['a Content-Length', 'Content-Length: 12'],
  ['chunks', 'Transfer-Encoding: chunked'],
] as const) {
  t.test(`bodies with ${what} that look like header sections are passed on unchanged`, async (t) => {
    const { socket, exchanges } = await setUp(t)
    socket.resume()
    const body = '["\\r"]\r\n\r\n\r\n'
    t.equal(body.length, 12)
    const encoded = head.includes('chunked') ? `c\r\n${body}\r\n0\r\n\r\n` : body
    const count = 3 * maxRequestsInFlight
    socket.write(`POST / HTTP/1.1\r\n${head}\r\n\r\n${encoded}`.repeat(count))
    for (const index of range(count)) {
      const { request, response } = await until(() => exchanges[index])
      t.ok(exchanges.length - index <= maxRequestsInFlight)
      t.same(await json(request), ['\r'])
      response.end()
    }
  })
}

t.test('the body of the last request in progress still arrives', async (t) => {
  const { socket, exchanges } = await setUp(t)
  socket.resume()
  const body = 'x'.repeat(300_000)
  socket.write(
    range(maxRequestsInFlight - 1)
      .map(get)
      .join(''),
  )
  socket.write(`POST /last HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}${get('next')}`)
  const last = await until(() => exchanges[maxRequestsInFlight - 1])
  t.equal(await text(last.request), body)
  await settled(socket)
  t.equal(exchanges.length, maxRequestsInFlight)
  t.equal((await answerAll(t, exchanges, maxRequestsInFlight + 1)).at(-1), '/next')
})

t.test('a client that reads no answers gets at most as many answers as are in progress and buffered', async (t) => {
  const { socket, exchanges } = await setUp(t)
  socket.pause()
  const answer = 'x'.repeat(1_000_000)
  socket.write(range(1_000).map(get).join(''))
  let answered = 0
  for (;;) {
    const next = exchanges[answered]
    if (!next) {
      await settled(socket)
      if (!exchanges[answered]) break
      continue
    }
    next.response.end(answer)
    answered += 1
  }
  t.ok(answered < 100, `${answered} of 1,000 requests were read`)
  const received = text(socket)
  const isDone = until(() => {
    for (; exchanges[answered]; answered++) exchanges[answered]?.response.end('y')
    return answered === 1_000
  })
  await isDone
  socket.end()
  t.equal((await received).match(/HTTP\/1\.1 200/g)?.length, 1_000)
})

t.test('a connection with many requests in progress does not delay another connection', async (t) => {
  const { server, socket, exchanges } = await setUp(t)
  socket.write(range(100).map(get).join(''))
  await until(() => exchanges.length === maxRequestsInFlight)
  const other = connect((server.address() as AddressInfo).port, '127.0.0.1')
  t.teardown(() => other.destroy())
  other.write(get('other'))
  const { request, response } = await until(() => exchanges[maxRequestsInFlight])
  t.equal(request.url, '/other')
  response.end('done')
  await once(other, 'data')
})

t.test('a connection is closed when too many requests of all connections wait', async (t) => {
  const { server, socket, exchanges, open } = await setUp(t)
  const { port } = server.address() as AddressInfo
  const sockets = [socket, ...range(4).map(() => connect(port, '127.0.0.1'))]
  t.teardown(() => sockets.forEach((one) => void one.destroy()))
  let closed = 0
  for (const one of sockets) {
    one.on('error', () => {})
    one.on('close', () => {
      closed += 1
    })
    one.resume()
    // They fit into one read of Node.
    one.write(range(3_000).map(get).join(''))
  }
  await until(() => closed > 0)
  await Promise.all(sockets.filter((one) => !one.destroyed).map(settled))
  t.equal(closed, 5 - Math.floor(maxWaitingRequests / 3_000))
  t.equal(open().length, 5 * maxRequestsInFlight, 'the requests of a closed connection may have begun')
  const kept = sockets.filter((one) => !one.destroyed).length
  await until(() => {
    for (const { response } of open()) response.end('y')
    return exchanges.length === kept * 3_000 + closed * maxRequestsInFlight
  })
})

t.test('what follows an upgrade request reaches the new protocol', async (t) => {
  const { server, socket } = await setUp(t)
  const received: Buffer[] = []
  server.on('upgrade', async (_request, upgraded: Socket, head: Buffer) => {
    received.push(head)
    await new Promise(setImmediate)
    upgraded.on('data', (data: Buffer) => received.push(data))
  })
  socket.write('GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nfirst\r\n\r\n')
  await until(() => Buffer.concat(received).length === 9)
  socket.write('second')
  await until(() => Buffer.concat(received).toString() === 'first\r\n\r\nsecond')
  t.equal(Buffer.concat(received).toString(), 'first\r\n\r\nsecond')
})

t.test('a request that is not HTTP ends the connection, and what follows is not read', async (t) => {
  const { socket, exchanges } = await setUp(t)
  const received = text(socket)
  socket.write(`NONSENSE\r\n\r\n${get(1)}`)
  t.match(await received, /^HTTP\/1\.1 400/)
  t.equal(exchanges.length, 0)
})
