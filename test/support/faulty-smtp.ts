import { once } from 'node:events'
import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import PostalMime from 'postal-mime'
import { SMTPServer, type SMTPServerSession } from 'smtp-server'
import type { Test } from 'tap'

/** The ways in which a connection fails, each with the same probability. */
const faults = [
  ...(['greeting', 'sender', 'recipient', 'data'] as const).flatMap((stage) => [
    { stage, does: 'refuses for now', code: stage === 'greeting' ? 421 : 451 },
    { stage, does: 'rejects', code: stage === 'greeting' ? 554 : 550 },
  ]),
  { stage: 'greeting', does: 'cuts' },
  { stage: 'recipient', does: 'cuts' },
  { stage: 'within data', does: 'cuts' },
  { stage: 'data', does: 'cuts' },
  { stage: 'recipient', does: 'is slow' },
  { stage: 'data', does: 'is slow' },
] as const

type Fault = (typeof faults)[number]
type Stage = Fault['stage']

const slowMs = 1_000

export interface FaultySmtp {
  url: string
  /** How often each Message-ID was accepted. */
  accepted: Map<string, number>
  /** How often the connection was cut after an e-mail was accepted, by Message-ID. */
  cutAfterData: Map<string, number>
  /** How often each fault has occurred. */
  faults: Map<string, number>
  connections: number
}

/** Mulberry32, a small generator of random numbers from 0 to 1. */
function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}

const count = (counts: Map<string, number>, name: string) => void counts.set(name, (counts.get(name) ?? 0) + 1)

/**
 * Starts a real SMTP server of which a share of the connections fail.
 *
 * @param share from 0 to 1
 */
export async function startFaultySmtp(t: Test, { share, seed }: { share: number; seed: number }): Promise<FaultySmtp> {
  const random = createRandom(seed)
  const result: FaultySmtp = {
    url: '',
    accepted: new Map(),
    cutAfterData: new Map(),
    faults: new Map(),
    connections: 0,
  }
  const sockets = new Map<number, Socket>()
  const planned = new Map<string, Fault>()

  /** Lets the connection fail here, if that is planned. Returns whether it was cut. */
  function reach(session: SMTPServerSession, stage: Stage, done?: (error?: Error | null) => void): boolean {
    const fault = planned.get(session.id)
    if (fault?.stage !== stage) {
      done?.()
      return false
    }
    planned.delete(session.id)
    count(result.faults, `${fault.does} at ${stage}`)
    if ('code' in fault) done?.(Object.assign(new Error('no'), { responseCode: fault.code }))
    else if (fault.does === 'is slow') setTimeout(() => done?.(), slowMs)
    else sockets.get(session.remotePort)?.destroy()
    return fault.does === 'cuts'
  }

  const server = new SMTPServer({
    ...{ authOptional: true, disabledCommands: ['STARTTLS'], closeTimeout: 100 },
    onConnect(session, done) {
      result.connections += 1
      if (random() < share) planned.set(session.id, faults[Math.floor(random() * faults.length)] as Fault)
      reach(session, 'greeting', done)
    },
    onMailFrom: (_address, session, done) => void reach(session, 'sender', done),
    onRcptTo: (_address, session, done) => void reach(session, 'recipient', done),
    async onData(stream, session, done) {
      if (reach(session, 'within data')) return
      const { messageId = '' } = await PostalMime.parse(await buffer(stream))
      const fault = planned.get(session.id)
      const isRefused = fault?.stage === 'data' && 'code' in fault
      if (!isRefused) count(result.accepted, messageId)
      if (reach(session, 'data', done)) count(result.cutAfterData, messageId)
    },
  })
  server.on('error', () => {})
  server.server.on('connection', (socket: Socket) => {
    const port = socket.remotePort as number
    sockets.set(port, socket)
    socket.on('close', () => sockets.delete(port))
  })
  server.listen(0, '127.0.0.1')
  await once(server.server, 'listening')
  t.teardown(() => new Promise<void>((resolve) => server.close(resolve)))
  const { port } = server.server.address() as { port: number }
  return Object.assign(result, { url: `smtp://127.0.0.1:${port}` })
}
