import { registerHooks } from 'node:module'
import { join } from 'node:path'

/** The types of the example app's API; `npm run openapi:types` writes them anew. */
export const typesFile = join(import.meta.dirname, '../clients/paths.ts')

// openapi-typescript makes its output with the compiler's own printer, which TypeScript 7 does not have for JavaScript.
const hooks = registerHooks({
  resolve: (specifier, context, next) => next(specifier === 'typescript' ? 'typescript-5' : specifier, context),
})
const { astToString, default: openapiTS } = await import('openapi-typescript')
hooks.deregister()

const header = `// Made by \`npm run openapi:types\` from the OpenAPI document of the example app: do not edit.
// biome-ignore-all format: made by a program
// biome-ignore-all lint: made by a program
// biome-ignore-all assist: made by a program

`

/** The types that openapi-typescript makes of a document. */
export async function typesOf(document: object): Promise<string> {
  return header + astToString(await openapiTS(JSON.stringify(document), { silent: true }))
}
