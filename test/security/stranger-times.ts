import { Agent, request } from 'node:http'
import { v7 as uuid7 } from 'uuid'
import type { Target } from '../hostile/target.ts'

const resultBytes = 1024 * 1024
/** The medians for a foreign and for an absent job may differ by this share. */
const maxDifference = 0.1

/** The requests that name a job. */
const attempts = [
  ['GET', ''],
  ['GET', '/result'],
  ['GET', '/events'],
  ['POST', '/links'],
  ['POST', '/cancel'],
  ['POST', '/retry'],
] as const

export interface StrangerTimes {
  what: string
  foreignMs: number
  absentMs: number
  findings: string[]
}

/**
 * Asks for the large job of another principal and for jobs that never existed, in turns, and compares the medians of the
 * times. A difference would tell which jobs exist.
 *
 * @param options.authorization the credential of a principal without jobs
 * @param options.requests how many requests of each kind
 */
export async function compareStrangerTimes(
  { api, query }: Target,
  { authorization, requests }: { authorization: string; requests: number },
): Promise<StrangerTimes[]> {
  const [{ id: foreign }] = await query(`select accepted.enqueue('todo.create', '{}', principal => 'owner') as id`)
  await query(
    `update accepted.job set status = 'succeeded', started_at = now(), ended_at = now(), result = to_jsonb((
      select string_agg(md5(n::text), '') from generate_series(1, $2 / 32) as n
    )) where id = $1`,
    [foreign, resultBytes],
  )
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const send = (method: string, path: string) => timeOf({ agent, method, path, port: api.port, authorization })
  const results: StrangerTimes[] = []
  try {
    for (const [method, action] of attempts) {
      const times = { foreign: [] as number[], absent: [] as number[] }
      // Each pair starts with the other kind, and the first requests only warm up.
      for (let index = -50; index < requests; index++) {
        const pair = [
          ['foreign', foreign],
          ['absent', uuid7()],
        ] as const
        for (const [kind, id] of index % 2 === 0 ? pair : pair.toReversed()) {
          const ms = await send(method, `/jobs/${id}${action}`)
          if (index >= 0) times[kind].push(ms)
        }
      }
      const [foreignMs, absentMs] = [median(times.foreign), median(times.absent)]
      const difference = Math.abs(foreignMs / absentMs - 1)
      const findings = difference > maxDifference ? [`the times differ by ${Math.round(100 * difference)} %`] : []
      results.push({ what: `${method} /jobs/{id}${action}`, foreignMs, absentMs, findings })
    }
  } finally {
    agent.destroy()
  }
  return results
}

interface TimedRequest {
  agent: Agent
  method: string
  path: string
  port: number
  authorization: string
}

/** Sends a request that must be answered with 404. Returns the time until its answer is complete, in milliseconds. */
function timeOf({ authorization, ...options }: TimedRequest): Promise<number> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const sent = request({ host: '127.0.0.1', headers: { authorization }, ...options }, (response) => {
      if (response.statusCode !== 404) reject(new Error(`${options.path} was answered with ${response.statusCode}`))
      response.resume().on('end', () => resolve(performance.now() - startedAt))
    })
    sent.on('error', reject).end()
  })
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1] as number
