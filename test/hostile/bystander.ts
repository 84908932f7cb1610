import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'

/** The pause between two requests. A bystander sends about thirty requests a second. */
const pauseMs = 25
const requestTimeoutMs = 60_000

export interface Latency {
  /** The time from sending the request to the end of its response, in milliseconds. */
  ms: number
  method: string
  path: string
  /** The hostile traffic at that time. */
  step: string
}

/** What a client experiences that does nothing wrong. */
export interface Experience {
  latencies: Latency[]
  /** One sentence for each response that was not the right one. */
  findings: string[]
  /** The ids of its jobs. */
  jobs: string[]
}

export interface Bystander {
  /** Returns what happened since the last call, and forgets it. */
  take(): Experience
  /** Names the traffic that begins now. */
  nameStep(step: string): void
  stop(): Promise<void>
}

interface Answer {
  status: number
  // biome-ignore lint/suspicious/noExplicitAny: each caller knows the shape
  body: any
}

/**
 * Starts a client with another principal and a connection of its own. It submits a job, polls it, reads its result and
 * lists its jobs, again and again. It runs in the process that does little else, so that it measures the API and not
 * itself, and with the usual priority, unlike the attackers.
 */
export function startBystander(port: number): Bystander {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const fresh = (): Experience => ({ latencies: [], findings: [], jobs: [] })
  let experience = fresh()
  let isStopped = false
  let step = ''

  const send = async (method: string, path: string, body?: object): Promise<Answer> => {
    const startedAt = performance.now()
    const answer = await exchange(agent, { port, method, path, body })
    experience.latencies.push({ ms: performance.now() - startedAt, method, path, step })
    await delay(pauseMs)
    return answer
  }
  const expect = async (wanted: number, method: string, path: string, body?: object): Promise<Answer> => {
    const answer = await send(method, path, body)
    if (answer.status !== wanted) throw new Error(`${method} ${path} answered ${answer.status}, not ${wanted}`)
    return answer
  }
  const runOnce = async () => {
    const { body: job } = await expect(202, 'POST', '/quick', { text: 'bystander' })
    experience.jobs.push(job.id)
    for (let body = job; !body.endedAt; ) ({ body } = await expect(200, 'GET', `/jobs/${job.id}`))
    const result = await expect(200, 'GET', `/jobs/${job.id}/result`)
    if (result.body.text !== 'bystander') throw new Error(`The result of ${job.id} is ${JSON.stringify(result.body)}`)
    const list = await expect(200, 'GET', '/jobs?limit=10')
    if (list.body.value[0]?.id !== job.id) throw new Error(`The list does not begin with ${job.id}`)
  }
  const running = (async () => {
    while (!isStopped) {
      await runOnce().catch(async (error: Error) => {
        experience.findings.push(`A bystander's request failed: ${error.message}`)
        await delay(pauseMs)
      })
    }
  })()
  return {
    take() {
      const taken = experience
      experience = fresh()
      return taken
    },
    nameStep(name) {
      step = name
    },
    async stop() {
      isStopped = true
      await running
      agent.destroy()
    },
  }
}

interface Exchange {
  port: number
  method: string
  path: string
  body: object | undefined
}

function exchange(agent: Agent, { port, method, path, body }: Exchange): Promise<Answer> {
  const headers = { 'x-principal': 'bystander', ...(body && { 'content-type': 'application/json' }) }
  return new Promise((resolve, reject) => {
    const options = { agent, host: '127.0.0.1', port, method, path, headers, timeout: requestTimeoutMs }
    const sent = httpRequest(options, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        try {
          resolve({ status: response.statusCode as number, body: JSON.parse(Buffer.concat(parts).toString()) })
        } catch (error) {
          reject(error)
        }
      })
    })
    sent.on('timeout', () => sent.destroy(new Error(`${method} ${path} got no answer`)))
    sent.on('error', reject)
    sent.end(body && JSON.stringify(body))
  })
}
