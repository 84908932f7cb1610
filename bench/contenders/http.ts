import { openLoop } from '../core/open-loop.ts'
import { type Process, startAccepted, startModule } from '../core/process.ts'
import type { Contender, Sample } from '../core/scenario.ts'
import { costPer, type Server, startCost, threadOf } from '../core/server.ts'
import { closedLoop } from '../core/wrk.ts'

/** So many clients, so long. */
export interface HttpLoad {
  connections: number
  seconds: number
}

/** So many a second at fixed times, so long. */
export interface OpenLoad {
  loader: Process
  perSecond: number
  seconds: number
}

async function loadWith(url: string, load: HttpLoad | OpenLoad): Promise<Sample & { perSecond: number }> {
  if ('connections' in load) return { ...(await closedLoop(url, load.connections, load.seconds)) }
  const { loader, perSecond, seconds } = load
  const { course, ...figures } = await openLoop(loader, { url, perSecond, seconds })
  return { perSecond, ...figures }
}

/** Loads a server, and says what that cost it and Postgres. */
async function measureServer(
  { server, database, pid, url }: { server: Server; database: string; pid: number; url: string },
  load: HttpLoad | OpenLoad,
): Promise<Sample> {
  const end = await startCost(server, database, [pid])
  const before = threadOf(pid)
  const figures = await loadWith(url, load)
  const after = threadOf(pid)
  const requests = figures.perSecond * load.seconds
  return {
    ...figures,
    ...costPer(await end(), requests),
    threadCpu: ((after.computed - before.computed) / requests) * 1e6,
    threadWait: ((after.waited - before.waited) / requests) * 1e6,
  }
}

/** Ours: key, domain row, status and job in one transaction, shared by the requests that wait. */
export const ours: Contender<HttpLoad | OpenLoad> = {
  name: 'Accepted',
  async open({ server, directory }) {
    const database = 'http_ours'
    const databaseUrl = await server.createOurs(database)
    const api = await startAccepted('api', directory, { DATABASE_URL: databaseUrl })
    return {
      measure: (load) => measureServer({ server, database, pid: api.pid, url: `${api.url}/notes` }, load),
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
}

/** A server of a peer: a module of the bench that listens and says where. */
export const peer = (name: string, module: string): Contender<HttpLoad | OpenLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `http_${module.replaceAll(/\W/g, '_')}`
    const databaseUrl = await server.createDatabase(database)
    const process = startModule(`bench/contenders/${module}`, directory, { DATABASE_URL: databaseUrl })
    const { port } = await process.hear<{ port: number }>()
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
