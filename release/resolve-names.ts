import ts from 'typescript-5'
import type { Declarations } from './declarations.ts'

/** A name at the top of a declaration file, or an export of another package. */
export type Target = { file: string; name: string } | { package: string; name: string }

export type Modules = ReadonlyMap<string, Declarations>

/** Returns the names that a statement declares: several for variables, none for imports and the like. */
export function namesOf(statement: ts.Statement): string[] {
  if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.map(({ name }) => name.getText())
  const isDeclaration =
    ts.isInterfaceDeclaration(statement) ||
    ts.isTypeAliasDeclaration(statement) ||
    ts.isClassDeclaration(statement) ||
    ts.isFunctionDeclaration(statement) ||
    ts.isEnumDeclaration(statement)
  return isDeclaration && statement.name ? [statement.name.text] : []
}

/** Finds the statements that declare a name: several for overloads. */
export const findStatements = ({ source }: Declarations, name: string): ts.Statement[] =>
  source.statements.filter((statement) => namesOf(statement).includes(name))

/** Finds what a name means in a file. Returns undefined for names of the language, and for type parameters. */
export function resolveName(modules: Modules, file: string, name: string): Target | undefined {
  const module = modules.get(file) as Declarations
  if (findStatements(module, name).length > 0) return { file, name }
  for (const statement of module.source.statements) {
    const target = importedBy(statement, name)
    if (target) return resolveImport(modules, module, target.specifier, target.name)
  }
  return undefined
}

/** Finds the module, and the name there, that an import or a re-export takes a name from. */
function importedBy(statement: ts.Statement, name: string): { specifier: string; name: string } | undefined {
  if (ts.isImportDeclaration(statement)) {
    const specifier = textOf(statement.moduleSpecifier)
    const { name: byDefault, namedBindings: bindings } = statement.importClause ?? {}
    if (byDefault?.text === name) return { specifier, name: 'default' }
    if (bindings && ts.isNamespaceImport(bindings)) {
      return bindings.name.text === name ? { specifier, name: '*' } : undefined
    }
    const found = bindings?.elements.find((element) => element.name.text === name)
    return found && { specifier, name: (found.propertyName ?? found.name).text }
  }
  if (!ts.isExportDeclaration(statement) || !statement.moduleSpecifier) return undefined
  const found = exportedBy(statement).find((element) => element.name.text === name)
  return found && { specifier: textOf(statement.moduleSpecifier), name: (found.propertyName ?? found.name).text }
}

const textOf = (specifier: ts.Expression) => (specifier as ts.StringLiteral).text

export const exportedBy = ({ exportClause }: ts.ExportDeclaration) =>
  exportClause && ts.isNamedExports(exportClause) ? [...exportClause.elements] : []

function resolveImport(modules: Modules, from: Declarations, specifier: string, name: string): Target | undefined {
  const target = from.imports.get(specifier) as string
  return modules.has(target) ? resolveName(modules, target, name) : { package: target, name }
}

/** Finds what a declaration refers to. */
function referencesOf(modules: Modules, file: string, statement: ts.Statement): Target[] {
  const found: (Target | undefined)[] = []
  const visit = (node: ts.Node): void => {
    const name =
      (ts.isTypeReferenceNode(node) && node.typeName) ||
      (ts.isTypeQueryNode(node) && node.exprName) ||
      (ts.isExpressionWithTypeArguments(node) && node.expression) ||
      (ts.isComputedPropertyName(node) && node.expression)
    if (name) found.push(resolveName(modules, file, /^[\w$]+/.exec(name.getText())?.[0] ?? ''))
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      const specifier = textOf(node.argument.literal as ts.StringLiteral)
      const imported = /^[\w$]+/.exec(node.qualifier?.getText() ?? '')?.[0] ?? '*'
      found.push(resolveImport(modules, modules.get(file) as Declarations, specifier, imported))
    }
    ts.forEachChild(node, visit)
  }
  visit(statement)
  return found.filter((target) => target !== undefined)
}

export const keyOf = (target: Target) => `${target.name} ${'file' in target ? target.file : target.package}`

/** Returns what a file exports: what each name means. */
export function exportsOf(modules: Modules, file: string): Map<string, Target> {
  const { source } = modules.get(file) as Declarations
  const names = source.statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement) && statement.exportClause)
      return exportedBy(statement).map(({ name }) => name.text)
    const isExported = ts.canHaveModifiers(statement) && /\bexport\b/.test(modifiersOf(statement))
    if (!isExported && !ts.isExportDeclaration(statement) && !ts.isExportAssignment(statement)) return []
    const declared = namesOf(statement)
    if (declared.length === 0) throw new Error(`${file}: exports must have names, unlike: ${statement.getText()}`)
    return declared
  })
  return new Map(names.map((name) => [name, resolveName(modules, file, name) as Target]))
}

const modifiersOf = (node: ts.HasModifiers) =>
  ts
    .getModifiers(node)
    ?.map((one) => one.getText())
    .join(' ') ?? ''

/**
 * Finds everything that exports refer to, by key, the exports themselves included. What their files add to other modules
 * counts too.
 */
export function reach(modules: Modules, exports: Iterable<Target>): Map<string, Target> {
  const found = new Map<string, Target>()
  const follow = (target: Target): void => {
    if (found.has(keyOf(target))) return
    found.set(keyOf(target), target)
    if (!('file' in target)) return
    const module = modules.get(target.file) as Declarations
    for (const statement of [...findStatements(module, target.name), ...augmentationsOf(module)]) {
      referencesOf(modules, target.file, statement).forEach(follow)
    }
  }
  for (const target of exports) follow(target)
  return found
}

/** Finds the blocks `declare module`, which add types to other packages. */
export const augmentationsOf = ({ source }: Declarations): ts.Statement[] =>
  source.statements.filter(ts.isModuleDeclaration)
