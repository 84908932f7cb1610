import type { Operation } from '../../src/operation.ts'
import { performPickup, settlePickup } from '../app/operations.ts'
import { startAccepted, startModule } from '../core/process.ts'
import { pickup } from './pickup.ts'

const accepted = (name: string, { name: operation }: Operation) => {
  const database = operation.replaceAll(/\W/g, '_')
  return pickup(name, database, async (server, directory) => {
    const env = { DATABASE_URL: await server.createOurs(database), OPERATION: operation }
    const worker = await startAccepted('worker', directory, env)
    const enqueuer = startModule('bench/contenders/pickup-accepted-enqueue.ts', directory, env)
    await enqueuer.hear()
    return { worker, enqueuer }
  })
}

/** Ours, with database effects only: the handler is called in the transaction that ends its jobs. */
export const settling = accepted('Accepted, settle', settlePickup)

/** Ours, with work outside: the handler is called when the status row says that it runs. */
export const performing = accepted('Accepted, perform', performPickup)
