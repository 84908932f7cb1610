import { startAccepted, startModule } from '../core/process.ts'
import type { Contender } from '../core/scenario.ts'
import { costPer, startCost } from '../core/server.ts'
import { closedLoop } from '../core/wrk.ts'

/** So many clients, so long. */
export interface HttpLoad {
  connections: number
  seconds: number
}

/** Ours: key, domain row, status and job in one transaction, shared by the requests that wait. */
export const ours: Contender<HttpLoad> = {
  name: 'Accepted',
  async open({ server, directory }) {
    const database = 'http_ours'
    const databaseUrl = await server.createOurs(database)
    const api = await startAccepted('api', directory, { DATABASE_URL: databaseUrl })
    return {
      async measure({ connections, seconds }) {
        const end = await startCost(server, database, [api.pid])
        const figures = await closedLoop(`${api.url}/notes`, connections, seconds)
        return { ...figures, ...costPer(await end(), figures.perSecond * seconds) }
      },
      async close() {
        await api.stop()
        await server.dropDatabase(database)
      },
    }
  },
}

/** A server of a peer: a module of the bench that listens and says where. */
export const peer = (name: string, module: string, prepare?: (url: string) => Promise<void>): Contender<HttpLoad> => ({
  name,
  async open({ server, directory }) {
    const database = `http_${module.replaceAll(/\W/g, '_')}`
    const databaseUrl = await server.createDatabase(database)
    await prepare?.(databaseUrl)
    const process = startModule(`bench/contenders/${module}`, directory, { DATABASE_URL: databaseUrl })
    const { port } = await process.hear<{ port: number }>()
    return {
      async measure({ connections, seconds }) {
        const end = await startCost(server, database, [process.pid])
        const figures = await closedLoop(`http://127.0.0.1:${port}/notes`, connections, seconds)
        return { ...figures, ...costPer(await end(), figures.perSecond * seconds) }
      },
      async close() {
        await process.stop()
        await server.dropDatabase(database)
      },
    }
  },
})
