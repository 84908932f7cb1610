/** Reads the exported types of a module and their doc comments, without checking them. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import ts from 'typescript-5'

/** A member of an interface, or a parameter of a function. */
export interface Member {
  name: string
  isOptional: boolean
  /** The type as the source has it, without line breaks. */
  type: string
  doc: string
}

/** An exported function, class, constant or type. */
export interface Declaration {
  name: string
  kind: 'class' | 'constant' | 'function' | 'interface' | 'type'
  /** The declaration without its comments and without the bodies of functions. */
  text: string
  doc: string
  members: readonly Member[]
  /** The comments `@param`, `@returns` and `@throws`. */
  tags: readonly { tag: string; name: string; text: string }[]
}

type Declared =
  | ts.ClassDeclaration
  | ts.FunctionDeclaration
  | ts.InterfaceDeclaration
  | ts.TypeAliasDeclaration
  | ts.VariableStatement

const parsed = new Map<string, ts.SourceFile>()

function parse(file: string): ts.SourceFile {
  const source = parsed.get(file) ?? ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.Latest, true)
  parsed.set(file, source)
  return source
}

const isDeclared = (node: ts.Node): node is Declared =>
  ts.isClassDeclaration(node) ||
  ts.isFunctionDeclaration(node) ||
  ts.isInterfaceDeclaration(node) ||
  ts.isTypeAliasDeclaration(node) ||
  ts.isVariableStatement(node)

const nameOf = (node: Declared): string | undefined =>
  ts.isVariableStatement(node) ? node.declarationList.declarations[0]?.name.getText() : node.name?.text

/** Returns a declaration of a file, exported or not, or undefined if the file has none of this name. */
export function findDeclaration(file: string, name: string): Declaration | undefined {
  const source = parse(file)
  const nodes = source.statements.filter(isDeclared).filter((node) => nameOf(node) === name)
  // Of a type and a constant with one name, the type says more.
  const node = nodes.find((one) => !ts.isVariableStatement(one)) ?? nodes[0]
  if (node) return describe(node, name)
  return exportsIn(source)
    .find((found) => found.exported === name)
    ?.load()
}

/** Returns what a module exports, by name. */
export const exportsOf = (file: string): Declaration[] =>
  exportsIn(parse(file))
    .flatMap(({ load }) => load() ?? [])
    .sort((one, other) => (one.name < other.name ? -1 : 1))

interface Exported {
  exported: string
  load(): Declaration | undefined
}

function exportsIn(source: ts.SourceFile): Exported[] {
  return source.statements.flatMap((node): Exported[] => {
    if (ts.isExportDeclaration(node)) return reexportsIn(source, node)
    if (!isDeclared(node) || !node.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword)) return []
    const name = nameOf(node)
    return name === undefined ? [] : [{ exported: name, load: () => describe(node, name) }]
  })
}

function reexportsIn(source: ts.SourceFile, node: ts.ExportDeclaration): Exported[] {
  const { exportClause, moduleSpecifier } = node
  const from = moduleSpecifier && ts.isStringLiteral(moduleSpecifier) ? moduleSpecifier.text : '.'
  const file = from === '.' ? source.fileName : join(dirname(source.fileName), from)
  if (!existsSync(file)) return []
  if (!exportClause) return exportsIn(parse(file))
  if (!ts.isNamedExports(exportClause)) return []
  return exportClause.elements.map(({ name, propertyName }) => ({
    exported: name.text,
    load() {
      const found = findDeclaration(file, (propertyName ?? name).text)
      return found && { ...found, name: name.text }
    },
  }))
}

const kindOf = (node: Declared): Declaration['kind'] => {
  if (ts.isClassDeclaration(node)) return 'class'
  if (ts.isFunctionDeclaration(node)) return 'function'
  if (ts.isInterfaceDeclaration(node)) return 'interface'
  return ts.isTypeAliasDeclaration(node) ? 'type' : 'constant'
}

function describe(node: Declared, name: string): Declaration {
  const members = ts.isInterfaceDeclaration(node)
    ? node.members
    : ts.isTypeAliasDeclaration(node)
      ? membersOfType(node.type)
      : ts.isClassDeclaration(node)
        ? node.members.filter((member) => !isInternal(member))
        : []
  return {
    name,
    kind: kindOf(node),
    text: print(node),
    doc: docOf(node),
    members: members.flatMap(describeMember),
    tags: ts.getJSDocTags(node).map((tag) => ({
      tag: tag.tagName.text,
      name: ts.isJSDocParameterTag(tag) ? tag.name.getText() : '',
      text: plain(ts.getTextOfJSDocComment(tag.comment)),
    })),
  }
}

/** Returns the members of a type, of all alternatives of a union too, but not those that only tell these apart. */
function membersOfType(type: ts.TypeNode): ts.TypeElement[] {
  if (ts.isUnionTypeNode(type) || ts.isIntersectionTypeNode(type)) return type.types.flatMap(membersOfType)
  if (!ts.isTypeLiteralNode(type)) return []
  return type.members.filter((member) => !(ts.isPropertySignature(member) && member.type?.getText() === 'never'))
}

const isInternal = (member: ts.ClassElement) =>
  ts.isConstructorDeclaration(member) ||
  (member.name && ts.isPrivateIdentifier(member.name)) ||
  ts.canHaveModifiers(member) === false ||
  ts.getModifiers(member as ts.PropertyDeclaration)?.some(({ kind }) => kind === ts.SyntaxKind.PrivateKeyword)

function describeMember(member: ts.TypeElement | ts.ClassElement): Member[] {
  const { name } = member
  if (!name) return []
  const isMethod = ts.isMethodSignature(member) || ts.isMethodDeclaration(member)
  const type = isMethod
    ? signatureOf(member)
    : ts.isPropertySignature(member) || ts.isPropertyDeclaration(member)
      ? (member.type?.getText() ?? (member as ts.PropertyDeclaration).initializer?.getText() ?? 'unknown')
      : 'unknown'
  // Of the alternatives of a union, only one is there.
  const isAlternative = ts.isUnionTypeNode(member.parent.parent)
  const isOptional = isAlternative || ('questionToken' in member && member.questionToken !== undefined)
  return [{ name: name.getText(), isOptional, type: type.replaceAll(/\s+/g, ' '), doc: docOf(member) }]
}

const signatureOf = (node: ts.MethodSignature | ts.MethodDeclaration): string =>
  `(${node.parameters.map((one) => one.getText()).join(', ')}) => ${node.type?.getText() ?? 'unknown'}`

const plain = (text: string | undefined): string =>
  (text ?? '')
    .replaceAll(/\{@link (?:[\w.]*\.)?(\w+)\s*\}/g, '`$1`')
    .replaceAll(/(?<!\n)\n(?!\n)/g, ' ')
    .trim()

const docOf = (node: ts.Node): string =>
  ts
    .getJSDocCommentsAndTags(node)
    .filter(ts.isJSDoc)
    .map((doc) => plain(ts.getTextOfJSDocComment(doc.comment)))
    .at(-1) ?? ''

const printer = ts.createPrinter({ removeComments: true })

function print(node: Declared): string {
  const { transformed } = ts.transform<ts.Node>(node, [() => withoutBody])
  const text = printer.printNode(ts.EmitHint.Unspecified, transformed[0] as ts.Node, node.getSourceFile())
  return text
    .replaceAll(/;$/gm, '')
    .replaceAll(/^( {4})+/gm, (indent) => ' '.repeat(indent.length / 2))
    .replaceAll("'\\''", "'")
}

function withoutBody(node: ts.Node): ts.Node {
  const { factory } = ts
  if (ts.isFunctionDeclaration(node)) {
    const { modifiers, asteriskToken, name, typeParameters, parameters, type } = node
    const kept = modifiers?.filter(({ kind }) => kind !== ts.SyntaxKind.AsyncKeyword)
    return factory.createFunctionDeclaration(kept, asteriskToken, name, typeParameters, parameters, type, undefined)
  }
  if (ts.isVariableStatement(node)) {
    const [one] = node.declarationList.declarations
    if (!one) return node
    const declaration = factory.createVariableDeclaration(one.name, undefined, one.type)
    const list = factory.createVariableDeclarationList([declaration], ts.NodeFlags.Const)
    return factory.createVariableStatement(node.modifiers, list)
  }
  if (!ts.isClassDeclaration(node)) return node
  const members = node.members
    .filter((member) => !isInternal(member) || ts.isConstructorDeclaration(member))
    .map((member) => {
      if (ts.isConstructorDeclaration(member))
        return factory.createConstructorDeclaration(member.modifiers, member.parameters, undefined)
      if (!ts.isMethodDeclaration(member)) return member
      const { modifiers, asteriskToken, name, questionToken, typeParameters, parameters, type } = member
      return factory.createMethodDeclaration(
        modifiers,
        asteriskToken,
        name,
        questionToken,
        typeParameters,
        parameters,
        type,
        undefined,
      )
    })
  const { modifiers, name, typeParameters, heritageClauses } = node
  return factory.createClassDeclaration(modifiers, name, typeParameters, heritageClauses, members)
}
