// Opens event streams, each on a socket of its own. Reports how long after the end of a job its final event arrived.
// Bare sockets keep the CPU time of this process low.
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { median } from '../core/stats.ts'

export interface Watch {
  port: number
  /** The streams use these paths in turns. */
  paths: readonly string[]
  streams: number
  /** A stream counts as open once this many initial events have arrived. */
  eventsAtStart: number
  /** The ids of the jobs whose final event is awaited. A stream may get events of other jobs too. */
  ending: readonly string[]
}

/** Milliseconds from the end of a job until half of the streams had its final event, and until all streams had it. */
export interface Delivery {
  half: number
  all: number
}

/** A command to this process. The process answers each command with a message. */
export type WatchersCommand = { command: 'open'; watch: Watch } | { command: 'await-end' } | { command: 'close' }

const maxConcurrentOpens = 128
const openTimeoutMs = 300_000
const endTimeoutMs = 60_000

const sockets = new Set<Socket>()
/** Milliseconds from the end of the job to its final event, for each stream on which that event has arrived. */
let delays: number[] = []

process.on('message', async (message: WatchersCommand) => {
  switch (message.command) {
    case 'open':
      return process.send?.(await openAll(message.watch))
    case 'await-end':
      return process.send?.(await awaitEnd())
    case 'close':
      return process.send?.(closeAll())
  }
})

async function openAll(watch: Watch): Promise<{ seconds: number }> {
  delays = []
  const timer = setTimeout(() => {
    throw new Error(`Started only ${sockets.size} of ${watch.streams} streams within ${openTimeoutMs / 1000} s`)
  }, openTimeoutMs)
  const begun = performance.now()
  let next = 0
  const openSome = async () => {
    while (next < watch.streams) await openStream(watch, watch.paths[next++ % watch.paths.length] as string)
  }
  await Promise.all(Array.from({ length: maxConcurrentOpens }, openSome))
  clearTimeout(timer)
  return { seconds: (performance.now() - begun) / 1000 }
}

async function awaitEnd(): Promise<Delivery> {
  const deadline = performance.now() + endTimeoutMs
  while (delays.length < sockets.size && performance.now() < deadline) await delay(20)
  const missing = sockets.size - delays.length
  if (missing > 0) throw new Error(`${missing} streams got no final event within ${endTimeoutMs / 1000} s`)
  return { all: delays.reduce((a, b) => Math.max(a, b), 0), half: median(delays) }
}

/** Resets the connections, because an orderly close would keep their ports in use for a while. */
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
    let hasStarted = false
    socket.on('connect', () =>
      socket.write(`GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n`),
    )
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`The server closed ${path} before the stream was open`)))
    socket.on('data', (chunk) => {
      const frames = (rest + chunk.toString('latin1')).split('\n\n')
      rest = frames.pop() as string
      for (const frame of frames) {
        if (!hasStarted && !frame.startsWith('HTTP/1.1 200 ')) return void socket.destroy(new Error(frame))
        hasStarted = true
        if (!frame.includes('\ndata: ')) continue
        events++
        if (frame.includes('"status":"succeeded"') && ending.includes(memberOf(frame, 'id')))
          delays.push(sinceEndOf(frame))
      }
      if (hasStarted && events >= eventsAtStart) resolve()
    })
  })
}

const memberOf = (frame: string, name: string): string => frame.match(new RegExp(`"${name}":"([^"]+)"`))?.[1] ?? ''

const sinceEndOf = (frame: string): number =>
  performance.timeOrigin + performance.now() - Date.parse(memberOf(frame, 'endedAt'))
