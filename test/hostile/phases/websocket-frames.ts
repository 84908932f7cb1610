import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Attack, Phase } from '../phase.ts'
import { repeatFor } from '../traffic.ts'
import { frame, opcodes, openSocket } from '../websocket.ts'

const perKindMs = 1_500
const socketsAtOnce = 20
const maxOpenMs = 1_000

const repeat = (part: Buffer, bytes: number) => Buffer.concat(Array(Math.ceil(bytes / part.length)).fill(part))

/** What is sent on a socket, by name. */
function makeKinds(known: string): Readonly<Record<string, Buffer>> {
  const subscription = JSON.stringify({ subscribe: [known] })
  const unsubscription = JSON.stringify({ unsubscribe: [known] })
  const manyIds = JSON.stringify({ subscribe: Array.from({ length: 900 }, (_, n) => known.slice(0, -3) + (100 + n)) })
  return {
    broken: repeat(frame('{'), 63_000),
    unclosed: frame('['.repeat(60_000)),
    duplicates: frame(`{${Array(5_000).fill('"a":1').join(',')}}`),
    empty: repeat(frame(''), 240_000),
    'empty fragments': Buffer.concat([
      frame('', { isFinal: false }),
      repeat(frame('', { opcode: opcodes.continuation, isFinal: false }), 240_000),
    ]),
    'small fragments': Buffer.concat([
      frame('{', { isFinal: false }),
      repeat(frame(' ', { opcode: opcodes.continuation, isFinal: false }), 240_000),
    ]),
    'no subscription': repeat(frame('{"subscribe":[]}'), 240_000),
    subscriptions: repeat(Buffer.concat([frame(subscription), frame(unsubscription)]), 240_000),
    'many ids': repeat(frame(manyIds), 240_000),
    pings: repeat(frame('', { opcode: opcodes.ping }), 240_000),
    'large pings': repeat(frame('x'.repeat(125), { opcode: opcodes.ping }), 500_000),
    pongs: repeat(frame('', { opcode: opcodes.pong }), 240_000),
    closes: repeat(frame('', { opcode: opcodes.close }), 60_000),
    'bad close': frame(Buffer.from([0, 1]), { opcode: opcodes.close }),
    unmasked: frame(subscription, { isMasked: false }),
    reserved: frame(subscription, { reserved: 7 }),
    compressed: repeat(frame(subscription, { reserved: 4 }), 1_000),
    'unknown opcode': frame('x', { opcode: opcodes.reserved }),
    'long control frame': frame('x'.repeat(126), { opcode: opcodes.ping }),
    'not UTF-8': frame(Buffer.from([0xff, 0xfe])),
    binary: frame(subscription, { opcode: opcodes.binary }),
    'huge length': Buffer.from([0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1]),
    'half a frame': frame(subscription).subarray(0, 9),
    random: randomBytes(10_000),
  }
}

async function sendOnSocket(attack: Attack, bytes: Buffer, timesMax: number): Promise<void> {
  const connection = await openSocket(attack)
  if (!connection) return
  const endsAt = performance.now() + attack.scaled(maxOpenMs)
  for (let time = 0; time < timesMax && !connection.socket.destroyed && performance.now() < endsAt; time++) {
    const isDrained = connection.socket.write(bytes)
    attack.report.sent += 1
    if (!isDrained) await Promise.race([new Promise((resolve) => connection.socket.once('drain', resolve)), delay(100)])
  }
  await Promise.race([new Promise((resolve) => connection.socket.once('close', resolve)), delay(100)])
  connection.close()
}

export const webSocketFrames: Phase = {
  name: 'websocket-frames',
  summary: 'broken, empty, fragmented and tiny frames in bulk, on one and on several sockets',
  async run(attack) {
    const [known = ''] = attack.options.knownIds
    for (const [name, bytes] of Object.entries(makeKinds(known))) {
      attack.step(name)
      await sendOnSocket(attack, bytes, 4)
      await repeatFor(attack.scaled(perKindMs), attack.scaled(socketsAtOnce), () => sendOnSocket(attack, bytes, 20))
    }
  },
}
