import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'
import { repeatFor, submit, submitAndAwait } from '../traffic.ts'
import { frame, openSocket } from '../websocket.ts'

const holdMs = 20_000
const resultBytes = 1_000_000
const perConnection = 16

function openUnread(attack: Attack, connections: number, text: string, times = 1): RawConnection[] {
  return Array.from({ length: connections }, () => {
    const connection = new RawConnection(attack.options.port, { isReading: false })
    connection.send(text.repeat(times))
    attack.report.sent += times
    return connection
  })
}

const sse = { headers: { Accept: 'text/event-stream' } }

export const unreadAnswers: Phase = {
  name: 'unread-answers',
  summary: 'clients that do not read streams, sockets, large results and lists, while jobs with large results end',
  async run(attack) {
    attack.step('preparation')
    const bulk = (count: number) => Array.from({ length: count }, () => ({ bytes: resultBytes, content: 'random' }))
    const ids = await submitAndAwait(attack, '/bulk', bulk(attack.scaled(10)))
    const connections = attack.scaled(100)
    attack.step('unread answers')
    const unread = [
      ...openUnread(attack, connections, request('GET', '/events', sse)),
      ...ids.flatMap((id) => openUnread(attack, 10, request('GET', `/jobs/${id}/result`), perConnection)),
      ...ids.flatMap((id) => openUnread(attack, 3, request('GET', `/jobs/${id}`), perConnection)),
      ...ids.flatMap((id) => openUnread(attack, 3, request('GET', `/jobs/${id}/events`, sse))),
      ...openUnread(attack, attack.scaled(30), request('GET', '/jobs?limit=100'), perConnection),
      ...openUnread(attack, attack.scaled(30), request('GET', '/openapi.json'), perConnection),
    ]
    attack.step('unread sockets')
    for (let count = 0; count < attack.scaled(50); count++) {
      const socket = await openSocket(attack, { isReading: false })
      if (!socket) continue
      if (count % 2 === 0) socket.send(frame(JSON.stringify({ subscribe: ids })))
      unread.push(socket)
    }
    attack.step('large results end')
    await repeatFor(attack.scaled(holdMs), 2, async () => {
      await submit(attack, '/bulk', { bytes: resultBytes, content: 'repeated' })
      await delay(200)
    })
    for (const connection of unread) connection.close()
  },
}
