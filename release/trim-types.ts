/**
 * Removes from the built declaration files what no entry point exports or refers to: the compiler emits the types of all
 * internal modules too, which import types that the package does not depend on.
 */
import { globSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript-5'
import { type EntryPoint, entryPointsOf, readDeclarations, readManifest } from './declarations.ts'
import { root } from './production-packages.ts'
import { augmentationsOf, exportedBy, exportsOf, keyOf, namesOf, reach, resolveName } from './resolve-names.ts'

/** Returns the texts of the declaration files that entry points need, by path. */
export function trimTypes(entryPoints: readonly EntryPoint[]): Map<string, string> {
  const modules = readDeclarations(entryPoints.map(({ file }) => file))
  const reached = reach(
    modules,
    entryPoints.flatMap(({ file }) => [...exportsOf(modules, file).values()]),
  )
  const reachedFiles = new Set([...reached.values()].flatMap((target) => ('file' in target ? [target.file] : [])))
  const trimmed = new Map<string, string>()
  for (const [path, module] of modules) {
    const { statements } = module.source
    const kept = [
      ...statements.filter((one) => namesOf(one).some((name) => reached.has(keyOf({ file: path, name })))),
      ...(reachedFiles.has(path) ? augmentationsOf(module) : []),
    ]
    const exported = statements.filter(ts.isExportDeclaration).flatMap((one) =>
      printExport(one, (name) => {
        const target = resolveName(modules, path, name)
        return target !== undefined && reached.has(keyOf(target))
      }),
    )
    if (kept.length + exported.length === 0) continue
    const ownExports = statements.filter((one) => ts.isExportDeclaration(one) && !one.moduleSpecifier)
    const used = identifiersOf([...kept, ...ownExports])
    const imports = statements.filter(ts.isImportDeclaration).flatMap((one) => printImport(one, used))
    // Without an import or an export, a file would declare global names.
    const lines = [...imports, ...exported, ...kept.map((one) => one.getFullText().trim()), 'export {};', '']
    trimmed.set(path, lines.join('\n'))
  }
  return trimmed
}

function identifiersOf(statements: readonly ts.Statement[]): Set<string> {
  const found = new Set<string>()
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) found.add(node.text)
    ts.forEachChild(node, visit)
  }
  statements.forEach(visit)
  return found
}

/** Prints a re-export with those of its names that are kept. */
function printExport(statement: ts.ExportDeclaration, isKept: (name: string) => boolean): string[] {
  const names = exportedBy(statement).filter(({ name }) => isKept(name.text))
  if (names.length === 0) return []
  const from = statement.moduleSpecifier ? ` from ${statement.moduleSpecifier.getText()}` : ''
  const list = names.map((one) => one.getText()).join(', ')
  return [`export ${statement.isTypeOnly ? 'type ' : ''}{ ${list} }${from};`]
}

/** Prints an import with those of its names that are used. */
function printImport({ importClause, moduleSpecifier }: ts.ImportDeclaration, used: ReadonlySet<string>): string[] {
  const { name, namedBindings } = importClause ?? {}
  const isUsed = (one: ts.ImportSpecifier) => used.has(one.name.text)
  const names = namedBindings && ts.isNamedImports(namedBindings) ? namedBindings.elements.filter(isUsed) : []
  const all = namedBindings && ts.isNamespaceImport(namedBindings) && used.has(namedBindings.name.text)
  const parts = [
    ...(name && used.has(name.text) ? [name.text] : []),
    ...(all ? [namedBindings.getText()] : []),
    ...(names.length > 0 ? [`{ ${names.map((one) => one.getText().replace(/^type /, '')).join(', ')} }`] : []),
  ]
  return parts.map((part) => `import type ${part} from ${moduleSpecifier.getText()};`)
}

if (import.meta.main) {
  const trimmed = trimTypes(entryPointsOf(readManifest()))
  for (const file of globSync('dist/**/*.d.ts', { cwd: root })) {
    const text = trimmed.get(join(root, file))
    if (text === undefined) rmSync(join(root, file))
    else writeFileSync(join(root, file), text)
  }
}
