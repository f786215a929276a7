// Prints the shapes that an `@anthropic-ai/sdk` declares: `node shapes.mjs PACKAGE FILE:NAME…` reads the
// declarations in the folder PACKAGE and prints, as one JSON, the named types and whatever they hold. It
// judges nothing.
//
// A shape is { kind: 'object', name, fields: { NAME: { required, nullable, shape } }, map } |
// { kind: 'union', of: [shape] } | { kind: 'array', items } | { kind: 'enum', values } |
// { kind: 'string' | 'number' | 'boolean' | 'any' } | { kind: 'ref', name } to an entry of `types`.
import { join, relative, resolve } from 'node:path';
import { realpathSync } from 'node:fs';
import ts from 'typescript';

const [folder, ...names] = process.argv.slice(2);
const home = realpathSync(resolve(folder));
const entry = join(home, 'resources', 'beta', 'index.d.ts');
const options = { strict: true, noEmit: true, skipLibCheck: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext };
const program = ts.createProgram([entry], options);
const checker = program.getTypeChecker();

/** Every exported type by file and name, as `agents/agents:AgentCreateParams`; one in a namespace is `Outer.Inner`. */
const exported = new Map();
for (const file of program.getSourceFiles().filter((file) => file.fileName.startsWith(home))) {
  const path = relative(join(home, 'resources', 'beta'), file.fileName).replace(/\.d\.ts$/, '');
  const walk = (node, outer) => {
    if ((ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) && !node.typeParameters) {
      const name = `${path}:${outer}${node.name.text}`;
      if (!exported.has(name)) exported.set(name, checker.getTypeAtLocation(node));
    }
    if (ts.isModuleDeclaration(node) && node.body && ts.isModuleBlock(node.body)) {
      node.body.statements.forEach((inner) => walk(inner, `${outer}${node.name.text}.`));
    }
  };
  ts.forEachChild(file, (node) => walk(node, ''));
}
/** The name of each type, with its file only where two files have one of that name. */
const nameOf = new Map();
const taken = new Set();
for (const [path, type] of exported) {
  if (!(type.flags & ts.TypeFlags.Object) || !type.symbol || nameOf.has(type)) continue;
  const name = path.split(':')[1];
  nameOf.set(type, taken.has(name) ? path : name);
  taken.add(name);
}

const types = {};

function shapeOf(type) {
  if (type.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown | ts.TypeFlags.Never)) return { kind: 'any' };
  if (type.isStringLiteral()) return { kind: 'enum', values: [type.value] };
  if (type.flags & ts.TypeFlags.BooleanLike) return { kind: 'boolean' };
  if (type.flags & ts.TypeFlags.StringLike) return { kind: 'string' };
  if (type.flags & ts.TypeFlags.NumberLike) return { kind: 'number' };
  // `(string & {})` is how an open list of texts is spelled.
  if (type.isIntersection() && type.types.some((one) => one.flags & ts.TypeFlags.String)) return { kind: 'string' };
  if (type.isUnion()) return union(type.types);
  if (checker.isArrayType(type)) return { kind: 'array', items: shapeOf(checker.getTypeArguments(type)[0]) };
  const name = nameOf.get(type);
  if (name === undefined) return object(type);
  if (!(name in types)) {
    types[name] = null; // a type that holds itself finds this
    types[name] = { ...object(type), name };
  }
  return { kind: 'ref', name };
}

function union(members) {
  const shapes = members.filter((one) => !nothing(one)).map(shapeOf);
  const values = shapes.filter((one) => one.kind === 'enum').flatMap((one) => one.values);
  const rest = shapes.filter((one) => one.kind !== 'enum');
  const plain = rest.some((one) => one.kind === 'string');
  const parts = [...(values.length > 0 && !plain ? [{ kind: 'enum', values: values.sort() }] : []), ...rest];
  const distinct = [...new Map(parts.map((one) => [JSON.stringify(one), one])).values()];
  return distinct.length === 1 ? distinct[0] : { kind: 'union', of: distinct };
}

function object(type) {
  const fields = {};
  for (const property of checker.getPropertiesOfType(type)) {
    const declared = checker.getTypeOfSymbol(property);
    const members = declared.isUnion() ? declared.types : [declared];
    fields[property.name] = {
      required: !(property.flags & ts.SymbolFlags.Optional),
      nullable: members.some((one) => Boolean(one.flags & ts.TypeFlags.Null)),
      shape: members.every(nothing) ? { kind: 'any' } : union(members),
    };
  }
  const index = checker.getIndexTypeOfType(type, ts.IndexKind.String);
  return { kind: 'object', fields, map: index ? shapeOf(index) : null };
}

const nothing = (type) => Boolean(type.flags & (ts.TypeFlags.Null | ts.TypeFlags.Undefined));

const roots = {};
for (const name of names) {
  if (!exported.has(name)) {
    console.error(`no such type: ${name}`);
    process.exitCode = 1;
  } else {
    roots[name] = shapeOf(exported.get(name));
  }
}
process.stdout.write(JSON.stringify({ roots, types }));
