import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'

const holdMs = 20_000
const pauseMs = 250

/** Sends the head at once, and then the rest byte by byte, again and again. */
async function trickle(attack: Attack, head: string, rest: string, connections: number): Promise<void> {
  const opened = Array.from({ length: connections }, () => new RawConnection(attack.options.port))
  attack.report.sent += connections
  for (const connection of opened) connection.send(head)
  for (let position = 0; position < attack.scaled(holdMs) / pauseMs; position++) {
    for (const { socket } of opened) if (!socket.destroyed) socket.write(rest[position % rest.length] as string)
    await delay(pauseMs)
  }
  for (const connection of opened) {
    const response = await connection.next(1)
    if (response) attack.record(response, head + rest)
    else attack.count('no answer')
    connection.close()
  }
}

export const slowSenders: Phase = {
  name: 'slow-senders',
  summary: 'connections that send nothing, or a head or a body byte by byte',
  async run(attack) {
    const headers = { 'Content-Type': 'application/json', 'Content-Length': '1000000' }
    const post = request('POST', '/quick', { headers })
    const idle = Array.from({ length: attack.scaled(300) }, () => new RawConnection(attack.options.port))
    await Promise.all([
      trickle(attack, '', request('GET', '/jobs'), attack.scaled(200)),
      trickle(attack, '', `GET / HTTP/1.1\r\n${'x: y\r\n'.repeat(100)}`, attack.scaled(100)),
      trickle(attack, post, '1', attack.scaled(200)),
      trickle(attack, post + '1'.repeat(900_000), '1', attack.scaled(40)),
    ])
    for (const connection of idle) connection.close()
  },
}
