import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import { get } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { typesFile, typesOf } from '../support/openapi-types.ts'
import { start } from '../support/program.ts'

t.test('openapi-typescript makes the types that are committed', async (t) => {
  const api = await start(t, 'api', { databaseUrl: await createDatabase(t) })
  const types = await typesOf((await get(`${api.url}/openapi.json`)).body)
  // `npm run openapi:types`
  if (process.env.TAP_SNAPSHOT === '1') await writeFile(typesFile, types)
  t.equal(await readFile(typesFile, 'utf8'), types, 'else: npm run openapi:types')
})
