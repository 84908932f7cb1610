import pg from 'pg'
import { format } from './scenario.ts'
import type { Server } from './server.ts'
import { quantile } from './stats.ts'

/** What a program that asks Postgres waits for on this machine, whatever it does, in milliseconds. */
export interface Waits {
  /** For the answer to a statement that reads nothing. */
  roundTrip: Wait
  /** For the answer to a statement that inserts a row, and its commit. */
  commit: Wait
}

interface Wait {
  p50: number
  p99: number
}

const times = 500

/** Measures, one statement after another, on a connection of its own, while nothing else goes on. */
export async function measureWaits(server: Server): Promise<Waits> {
  const client = new pg.Client({ connectionString: await server.createDatabase('waits') })
  await client.connect()
  try {
    await client.query('create table row (id integer)')
    const wait = async (name: string, text: string): Promise<Wait> => {
      const waited: number[] = []
      for (let time = 0; time < times; time++) {
        const begun = performance.now()
        await client.query({ name, text })
        waited.push(performance.now() - begun)
      }
      return { p50: quantile(waited, 0.5), p99: quantile(waited, 0.99) }
    }
    return { roundTrip: await wait('read', 'select'), commit: await wait('insert', 'insert into row values (1)') }
  } finally {
    await client.end()
    await server.dropDatabase('waits')
  }
}

/** How long so many statements take, one after another, of which so many commit: in words. */
export function leastWait({ roundTrip, commit }: Waits, statements: number, commits: number): string {
  const least = (statements - commits) * roundTrip.p50 + commits * commit.p50
  return `${format(least)} ms here while nothing else goes on, when one commit in a hundred takes ${format(commit.p99)} ms`
}
