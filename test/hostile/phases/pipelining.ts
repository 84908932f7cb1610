import { setTimeout as delay } from 'node:timers/promises'
import { RawConnection, request } from '../http.ts'
import type { Attack, Phase } from '../phase.ts'
import { repeatFor, sendTogether, submit } from '../traffic.ts'

const holdMs = 6_000

/** Sends requests and reads no answer. */
async function sendUnread(attack: Attack, connections: number, text: string, count: number): Promise<void> {
  const opened = Array.from({ length: connections }, () => {
    const connection = new RawConnection(attack.options.port, { isReading: false })
    connection.send(text.repeat(count))
    attack.report.sent += count
    return connection
  })
  await delay(attack.scaled(holdMs))
  for (const connection of opened) connection.close()
}

export const pipelining: Phase = {
  name: 'pipelining',
  summary: 'thousands of requests on one connection whose answers are not read, or wait, on one or many connections',
  async run(attack) {
    const [known = ''] = attack.options.knownIds
    const monitor = request('GET', `/jobs/${known}`)
    const list = request('GET', '/jobs?limit=100')
    attack.step('unread monitors')
    await sendUnread(attack, 1, monitor, 10_000)
    await sendUnread(attack, attack.scaled(30), monitor, 5_000)
    attack.step('unread lists')
    await sendUnread(attack, attack.scaled(10), list, 2_000)
    attack.step('waits')
    const waiting = await submit(attack, '/slow', { steps: 100 })
    await sendUnread(attack, 1, request('GET', `/jobs/${waiting}`, { headers: { Prefer: 'wait=55' } }), 20_000)
    await sendUnread(
      attack,
      attack.scaled(20),
      request('GET', `/jobs/${waiting}/result`, { headers: { Prefer: 'wait=55' } }),
      1_000,
    )
    attack.step('mixed reads')
    const mixed = [
      monitor,
      list,
      request('GET', '/jobs/x'),
      request('GET', '/openapi.json'),
      request('GET', '/docs/yaml'),
    ]
    await repeatFor(attack.scaled(holdMs), 20, () =>
      sendTogether(
        attack,
        mixed.flatMap((text) => Array(5).fill(text)),
      ),
    )
    attack.step('submits')
    const post = request('POST', '/quick', { body: { text: 'x' } })
    await repeatFor(attack.scaled(holdMs), 10, () => sendTogether(attack, Array(20).fill(post)))
  },
}
