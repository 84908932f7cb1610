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
    await enqueuer.receive()
    return { worker, enqueuer }
  })
}

/** The handler runs in the transaction that completes its jobs. */
export const settling = accepted('Accepted, settle', settlePickup)

/** The handler runs outside any transaction, after the status of the job has become `running`. */
export const performing = accepted('Accepted, perform', performPickup)
