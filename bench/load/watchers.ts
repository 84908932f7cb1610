// Follows streams of events, any number of them, each on a socket of its own; answers when all are open, and then how
// long after the end of its job the event was on each. Sockets alone, for what watches is not to be what is measured.
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { median } from '../core/stats.ts'

/** What to follow. */
export interface Watch {
  port: number
  /** Streams take these paths in turns. */
  paths: readonly string[]
  streams: number
  /** A stream is open once so many events of what there is have come. */
  eventsAtStart: number
  /** The jobs whose end is waited for; of others a stream may be told as well. */
  ending: readonly string[]
}

/** How long after the end of its job the event was on half of the streams, and on all, in milliseconds. */
export interface Told {
  half: number
  all: number
}

/** Streams that are being opened at a time. */
const openingAtOnce = 128
/** So long it may take to open all, and until all have been told the end, in milliseconds. */
const openWithin = 300_000
const endWithin = 60_000

const sockets = new Set<Socket>()
/** Of each stream that has been told the end: how long after it, in milliseconds. */
let delays: number[] = []

/** What is asked for; each is answered. */
export type Order = { do: 'open'; watch: Watch } | { do: 'await-end' } | { do: 'close' }

process.on('message', async (order: Order) => {
  switch (order.do) {
    case 'open':
      return process.send?.(await openAll(order.watch))
    case 'await-end':
      return process.send?.(await untilEnded())
    case 'close':
      return process.send?.(closeAll())
  }
})

async function openAll(watch: Watch): Promise<{ seconds: number }> {
  delays = []
  const tooLong = setTimeout(() => {
    throw new Error(`${sockets.size} of ${watch.streams} streams were begun in time`)
  }, openWithin)
  const begun = performance.now()
  let next = 0
  const openSome = async () => {
    while (next < watch.streams) await openStream(watch, watch.paths[next++ % watch.paths.length] as string)
  }
  await Promise.all(Array.from({ length: openingAtOnce }, openSome))
  clearTimeout(tooLong)
  return { seconds: (performance.now() - begun) / 1000 }
}

async function untilEnded(): Promise<Told> {
  const deadline = performance.now() + endWithin
  while (delays.length < sockets.size && performance.now() < deadline) await delay(20)
  if (delays.length < sockets.size)
    throw new Error(`${sockets.size - delays.length} streams have not been told the end`)
  return { all: delays.reduce((a, b) => Math.max(a, b), 0), half: median(delays) }
}

/** Without waiting for whom it concerns: the ports are wanted again. */
function closeAll(): object {
  for (const socket of sockets) socket.resetAndDestroy()
  sockets.clear()
  return {}
}

function openStream({ port, eventsAtStart, ending }: Watch, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    sockets.add(socket)
    let rest = ''
    let events = 0
    let hasBegun = false
    socket.on('connect', () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n`),
    )
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`${path} was closed before it was open`)))
    socket.on('data', (chunk) => {
      const frames = (rest + chunk.toString('latin1')).split('\n\n')
      rest = frames.pop() as string
      for (const frame of frames) {
        if (!hasBegun && !frame.startsWith('HTTP/1.1 200 ')) return void socket.destroy(new Error(frame))
        hasBegun = true
        if (!frame.includes('\ndata: ')) continue
        events++
        if (frame.includes('"status":"succeeded"') && ending.includes(memberOf(frame, 'id')))
          delays.push(sinceEndOf(frame))
      }
      if (hasBegun && events >= eventsAtStart) resolve()
    })
  })
}

const memberOf = (frame: string, name: string): string => frame.match(new RegExp(`"${name}":"([^"]+)"`))?.[1] ?? ''

const sinceEndOf = (frame: string): number =>
  performance.timeOrigin + performance.now() - Date.parse(memberOf(frame, 'endedAt'))
