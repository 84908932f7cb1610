import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { text } from 'node:stream/consumers'
import type { FastifyReply } from 'fastify'
import t, { type Test } from 'tap'
import { LargeAnswers } from '../../src/http/large-answers.ts'
import { limitPipelining } from '../../src/http/pipelining.ts'
import { until } from '../support/until.ts'

/** An answer that is being made. The test decides when and with what. */
interface Making {
  url: string
  finish(text: string): void
}

/** Starts a server whose answers are made by the test. The first part of a path is the principal. */
async function setUp(t: Test) {
  const answers = new LargeAnswers()
  const making: Making[] = []
  const refused: string[] = []
  const server = createServer((raw: IncomingMessage, response: ServerResponse) => {
    const url = raw.url as string
    const reply = {
      request: { principal: url.split('/')[1] },
      raw: response,
    } as never as FastifyReply
    const { promise, resolve } = Promise.withResolvers<string>()
    const make = async () => {
      making.push({ url, finish: resolve })
      return promise
    }
    answers.make(reply, make).then(
      (made) => response.end(made),
      () => refused.push(url),
    )
  })
  limitPipelining(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const open = () => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('error', () => {})
    return socket
  }
  const request = (...urls: string[]) => urls.map((url) => `GET /${url} HTTP/1.1\r\nHost: x\r\n\r\n`).join('')
  /** Waits until everything that can begin has begun. */
  const begun = async (count: number) => {
    await until(() => making.length === count)
    for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
    return making.map(({ url }) => url)
  }
  return { open, request, making, refused, begun }
}

t.test('a connection has one answer made at a time, a principal two, and a process four', async (t) => {
  const { open, request, making, begun } = await setUp(t)
  for (const connection of [1, 2, 3])
    open()
      .resume()
      .write(request(`ann/${connection}/1`, `ann/${connection}/2`))
  await until(() => making.length === 2)
  for (const principal of ['bob', 'cleo', 'dora']) open().resume().write(request(principal))
  t.same((await begun(4)).length, 4)
  const first = making.slice(0, 2).map(({ url }) => url.split('/')[2])
  t.equal(new Set(first).size, 2, 'of two connections')
  t.same(
    making
      .slice(2)
      .map(({ url }) => url)
      .toSorted().length,
    2,
    'two other principals did not wait',
  )
  t.notOk(making.slice(2).some(({ url }) => url.startsWith('/ann')))
  for (let index = 0; index < 9; index++) (await until(() => making[index])).finish('done')
  const ofAnn = making.map(({ url }) => url).filter((url) => url.startsWith('/ann'))
  t.equal(ofAnn.length, 6)
  t.equal(ofAnn[2]?.split('/')[3], '1', 'the third connection comes before the second request of the others')
})

t.test('a principal whose answers are not read gets no more of them, and others do', async (t) => {
  const { open, request, making, begun } = await setUp(t)
  const large = 'x'.repeat(10_000_000)
  const unread = [1, 2, 3, 4].map((number) => {
    const socket = open().pause()
    socket.write(request(`ann/${number}`))
    return socket
  })
  for (const index of [0, 1]) (await until(() => making[index])).finish(large)
  t.equal((await begun(2)).length, 2, 'the third answer waits for room')
  const other = open()
  other.write(request('bob'))
  ;(await until(() => making[2])).finish('bob')
  await once(other, 'data')
  t.equal(making[2]?.url, '/bob')
  for (const socket of unread.slice(0, 2)) socket.resume()
  await until(() => making.length === 5)
  t.same(
    making
      .slice(3)
      .map(({ url }) => url)
      .toSorted(),
    ['/ann/3', '/ann/4'],
  )
})

t.test('a client that does not read is disconnected when its principal has to wait for room', async (t) => {
  const { open, request, making } = await setUp(t)
  for (const number of [1, 2])
    open()
      .pause()
      .write(request(`ann/${number}`))
  const ofOther = open().pause()
  ofOther.write(request('bob'))
  for (const index of [0, 1, 2]) (await until(() => making[index])).finish('x'.repeat(10_000_000))
  const next = open()
  next.write(request('ann/3'))
  ;(await until(() => making[3])).finish('third')
  t.match(String((await once(next, 'data'))[0]), /third/)
  ofOther.once('data', () => ofOther.end())
  t.ok((await text(ofOther)).length > 10_000_000, 'the client of another principal gets its whole answer')
})

t.test('nothing is made for a client that has disconnected, and its room is free again', async (t) => {
  const { open, request, making, refused, begun } = await setUp(t)
  const socket = open().pause()
  socket.write(request('ann/1', 'ann/2', 'ann/3'))
  ;(await until(() => making[0])).finish('x'.repeat(20_000_000))
  t.same(await begun(1), ['/ann/1'], 'the answers behind it are not made before it is sent')
  socket.destroy()
  await until(() => refused.length === 2)
  t.same(refused.toSorted(), ['/ann/2', '/ann/3'])
  const next = open()
  next.write(request('ann/4'))
  ;(await until(() => making[1])).finish('fourth')
  next.once('data', () => next.end())
  t.match(await text(next), /fourth/)
  t.same(await begun(2), ['/ann/1', '/ann/4'])
})
