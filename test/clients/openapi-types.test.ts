import { readFile, writeFile } from 'node:fs/promises'
import t from 'tap'
import { get } from '../support/client.ts'
import { createDatabase } from '../support/database.ts'
import { generateTypes, typesFile } from '../support/openapi-types.ts'
import { start } from '../support/program.ts'

t.test('the committed types are the same as the types that openapi-typescript generates', async (t) => {
  const api = await start(t, 'api', { databaseUrl: await createDatabase(t) })
  const types = await generateTypes((await get(`${api.url}/openapi.json`)).body)
  // `npm run openapi:types` sets this variable.
  if (process.env.TAP_SNAPSHOT === '1') await writeFile(typesFile, types)
  t.equal(await readFile(typesFile, 'utf8'), types, 'to update the committed types, run: npm run openapi:types')
})
