import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { parseNetworks } from '../../../src/primitives/networks.ts'
import { post } from '../../../worker/webhooks/post.ts'
import { startReceiver } from '../../support/receiver.ts'

const send = (url: string, allow: readonly string[] = ['127.0.0.1'], signal = new AbortController().signal) =>
  post({ url, headers: { 'content-type': 'text/plain' }, body: 'ä', allow: parseNetworks(allow), signal })

async function serve(t: Test, onRequest: Parameters<typeof createServer>[1]) {
  const server = createServer(onRequest).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

t.test('a connection that was allowed for one request is not reused for another request', async (t) => {
  const receiver = await startReceiver(t, { answers: [{ status: 200, headers: { connection: 'keep-alive' } }] })
  t.match(await send(receiver.url), { status: 200 })
  await t.rejects(send(receiver.url, []), { name: 'AddressRefused' })
  await t.rejects(send(receiver.url, ['127.0.0.2', '::ffff:0:0/112']), { name: 'AddressRefused' })
  t.match(await send(receiver.url, ['10.0.0.1', '127.0.0.0/30']), { status: 200 })
  t.equal(receiver.received.length, 2)
  t.not(receiver.received[0]?.remotePort, receiver.received[1]?.remotePort)
})

t.test('a private address is refused before a connection is opened, in every notation', async (t) => {
  const receiver = await startReceiver(t)
  const { port } = new URL(receiver.url)
  for (const host of [
    ...['127.0.0.1', '127.1', '0177.0.0.1', '0x7f000001', '2130706433', '0', 'localhost', 'LOCALHOST', '[::1]', '[::]'],
    ...['[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]', '[0:0:0:0:0:0:0:1]'],
    ...['[::127.0.0.1]', '[::7f00:1]', '[::10.0.0.1]', '[::ffff:0:127.0.0.1]', '[64:ff9b:1::7f00:1]', '[2001:db8::1]'],
    ...[
      '127.0.0.1.',
      '127.1.',
      'localhost.',
      '017700000001',
      '0x7f.1',
      '0x7F.0.0.0x1',
      '127.000.000.001',
      '%31%32%37.1',
    ],
    ...[
      '１２７.０.０.１',
      '①②⑦.⓪.⓪.①',
      '127。0。0。1',
      'ｌｏｃａｌｈｏｓｔ',
      'loc%61lhost',
      'user:pass@127.0.0.1',
      '1.1.1.1@127.0.0.1',
    ],
    ...['169.254.169.254', '10.0.0.1', '172.16.0.1', '192.168.0.1', '100.64.0.1', '[fe80::1]', '[fd00::1]'],
  ]) {
    await t.rejects(send(`http://${host}:${port}/`, []), { name: 'AddressRefused' }, host)
    await t.rejects(send(`https://${host}:${port}/`, []), { name: 'AddressRefused' }, host)
  }
  t.equal(receiver.connections(), 0)
})

t.test('a host with a zone or an invalid address is no URL, so it is never called', async (t) => {
  for (const host of ['[fe80::1%eth0]', '[fe80::1%25eth0]', '[::1', '127.0.0.256', '0x7f.0.0.0.1', '1.2.3.4.5']) {
    t.throws(() => send(`http://${host}/`, []), { code: 'ERR_INVALID_URL' }, host)
  }
})

t.test('an allowed address can be called in every notation, and by its name', async (t) => {
  const receiver = await startReceiver(t)
  const { port } = new URL(receiver.url)
  for (const host of ['localhost', '127.1', '2130706433']) {
    t.match(await send(`http://${host}:${port}/`, ['127.0.0.0/8', '::1']), { status: 204 })
  }
  t.same([...new Set(receiver.received.map(({ body }) => body))], ['ä'])
})

t.test('only the beginning of an endless response is read', async (t) => {
  let written = 0
  const { url } = await serve(t, (_request, response) => {
    response.writeHead(200)
    const write = () => {
      while (!response.destroyed && response.write('x'.repeat(64 * 1024))) written += 1
    }
    response.on('drain', write)
    write()
  })
  t.match(await send(url), { status: 200 })
  t.pass(`the server wrote ${written} chunks`)
})

t.test('post resolves with the status even if the connection breaks before the end of the body', async (t) => {
  const { server, url } = await serve(t, (_request, response) => {
    response.writeHead(202, { 'content-length': '10' }).write('x', () => server.closeAllConnections())
  })
  t.match(await send(url), { status: 202 })
})

t.test('post resolves with the status, without waiting for the body', async (t) => {
  const receiver = await startReceiver(t, { answers: ['never'] })
  const { url } = await serve(t, (_request, response) => {
    response.writeHead(200).write('x')
  })
  // If `send(url)` waited for the response body, `never` would time out first.
  const never = send(receiver.url).catch((error: Error) => error)
  t.match(await Promise.race([never, send(url)]), { status: 200 })
})

t.test('a request that gets no response ends when its signal aborts, or at its timeout', async (t) => {
  const receiver = await startReceiver(t, { answers: ['never'] })
  const ending = new AbortController()
  const ended = send(receiver.url, ['127.0.0.1'], ending.signal)
  await receiver.arrived(1)
  ending.abort()
  await t.rejects(ended, { name: 'AbortError' })
  await t.rejects(send(receiver.url), { name: 'AbortError' })
})

t.test('a response that is not HTTP, or that switches protocols, is an error', async (t) => {
  const { server, url } = await serve(t, () => {})
  server.on('connection', (socket) => socket.end('SMTP\r\n'))
  await t.rejects(send(url))
  const upgrading = await serve(t, ({ socket }) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n')
  })
  await t.rejects(send(upgrading.url))
})
