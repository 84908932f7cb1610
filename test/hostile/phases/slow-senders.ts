import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'

const holdMs = 20_000
const pauseMs = 250

/** Sends a request byte by byte. */
async function trickle(attack: Attack, text: string, connections: number): Promise<void> {
  const opened = Array.from({ length: connections }, () => new RawConnection(attack.options.port))
  attack.report.sent += connections
  for (let position = 0; position < attack.scaled(holdMs) / pauseMs; position++) {
    for (const { socket } of opened) if (!socket.destroyed) socket.write(text[position % text.length] as string)
    await delay(pauseMs)
  }
  for (const connection of opened) {
    const response = await connection.next(1)
    if (response) attack.record(response, text)
    else attack.count('no answer')
    connection.close()
  }
}

/** Sends a head, and then a body that does not end. */
async function trickleBody(attack: Attack, head: string, connections: number): Promise<void> {
  const opened = Array.from({ length: connections }, () => new RawConnection(attack.options.port))
  attack.report.sent += connections
  for (const connection of opened) connection.send(head)
  for (let count = 0; count < attack.scaled(holdMs) / pauseMs; count++) {
    for (const { socket } of opened) if (!socket.destroyed) socket.write('1')
    await delay(pauseMs)
  }
  for (const connection of opened) {
    const response = await connection.next(1)
    if (response) attack.record(response, head)
    else attack.count('no answer')
    connection.close()
  }
}

export const slowSenders: Phase = {
  name: 'slow-senders',
  summary: 'connections that send nothing, or a head or a body byte by byte',
  async run(attack) {
    const length = (bytes: number) => ({
      headers: { 'Content-Type': 'application/json', 'Content-Length': `${bytes}` },
    })
    const idle = Array.from({ length: attack.scaled(300) }, () => new RawConnection(attack.options.port))
    await Promise.all([
      trickle(attack, request('GET', '/jobs'), attack.scaled(200)),
      trickle(attack, `GET / HTTP/1.1\r\n${'x: y\r\n'.repeat(100)}`, attack.scaled(100)),
      trickleBody(attack, request('POST', '/quick', length(1_000_000)), attack.scaled(200)),
      trickleBody(attack, `${request('POST', '/quick', length(1_000_000))}${'1'.repeat(900_000)}`, attack.scaled(40)),
    ])
    for (const connection of idle) connection.close()
  },
}
