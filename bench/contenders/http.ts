import { costPer, startCost } from '../core/cost.ts'
import { openLoop } from '../core/open-loop.ts'
import { childrenOf, threadOf } from '../core/proc.ts'
import { type AcceptedProcess, type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import type { Sample } from '../core/series.ts'
import type { Server } from '../core/server.ts'
import { closedLoop } from '../core/wrk.ts'

/** A closed loop: each connection waits for a response before it sends its next request. */
export interface HttpLoad {
  connections: number
  seconds: number
}

/** An open loop: requests at fixed times. */
export interface OpenLoad {
  loader: Process
  perSecond: number
  seconds: number
}

async function loadWith(url: string, load: HttpLoad | OpenLoad, key?: string): Promise<Sample & { perSecond: number }> {
  if ('connections' in load) return { ...(await closedLoop(url, load.connections, load.seconds, key)) }
  const { loader, perSecond, seconds } = load
  const { requests, ...figures } = await openLoop(loader, { url, perSecond, seconds })
  return { perSecond, ...figures }
}

/** Sends load to a server. Measures the resources that the server and Postgres use for it. */
async function measureServer(
  {
    server,
    database,
    pid,
    url,
    key,
  }: { server: Server; database: string; pid: number; url: string; key?: string | undefined },
  load: HttpLoad | OpenLoad,
): Promise<Sample> {
  const stopCost = await startCost(server, database, [pid, ...childrenOf(pid)])
  const before = threadOf(pid)
  const figures = await loadWith(url, load, key)
  const after = threadOf(pid)
  const requests = figures.perSecond * load.seconds
  return {
    ...figures,
    ...costPer(await stopCost(), requests),
    threadCpu: ((after.computed - before.computed) / requests) * 1e6,
    threadWait: ((after.waited - before.waited) / requests) * 1e6,
  }
}

interface Variant extends AcceptedProcess {
  env?: NodeJS.ProcessEnv
  /** Prepares the database. Returns further variables for the API, and the API key that clients send. */
  prepare?(url: string): Promise<{ env?: NodeJS.ProcessEnv; key?: string }>
}

/** Accepted: stores key, domain row, status and job in one transaction. Waiting requests share a transaction. */
export const accepted = (name: string, { env, prepare, ...options }: Variant = {}): Contender<HttpLoad | OpenLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `http_${name.replaceAll(/\W+/g, '_').toLowerCase()}`
    const databaseUrl = await server.createOurs(database)
    const { env: more, key } = (await prepare?.(databaseUrl)) ?? {}
    const api = await startAccepted('api', directory, { ...env, DATABASE_URL: databaseUrl, ...more }, options)
    return {
      measure: (load) => measureServer({ server, database, pid: api.pid, url: `${api.url}/notes`, key }, load),
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
})

export const ours = accepted('Accepted')
export const apiProcesses = [1, 2, 4].map((processes) => accepted(`--processes ${processes}`, { processes }))

/** Another server. It runs in a module of the bench that listens and reports its port. */
export const peer = (name: string, module: string): Contender<HttpLoad | OpenLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `http_${module.replaceAll(/\W/g, '_')}`
    const databaseUrl = await server.createDatabase(database)
    const process = startModule(`bench/contenders/${module}`, directory, { DATABASE_URL: databaseUrl })
    const { port } = await process.receive<{ port: number }>()
    return {
      measure: (load) =>
        measureServer({ server, database, pid: process.pid, url: `http://127.0.0.1:${port}/notes` }, load),
      async close() {
        await process.stop()
        await server.dropDatabase(database)
      },
    }
  },
})
